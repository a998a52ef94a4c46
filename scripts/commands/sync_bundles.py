"""The code of ``scripts/sync_bundles.py``: copies of files, and of a config's values in its text."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from med3d_components.utils.option_help import option_table

ROOT = Path(__file__).parents[2]
CANONICAL = ROOT / "scripts" / "canonical"
FILES = {
    "LICENSE": ROOT / "LICENSE",
    "NOTICE": ROOT / "NOTICE",
    "large_files.yml": CANONICAL / "large_files.yml",
    "configs/logging.conf": CANONICAL / "logging.conf",
    "configs/multi_gpu_train.json": CANONICAL / "multi_gpu_train.json",
}


def sync(check: bool = False, bundles: str | None = None) -> None:
    """Copy the canonical files and engine wiring into every bundle.

    Args:
        check: change nothing; print what differs and exit with 1 if anything does.
        bundles: folder of the bundles; by default that of this repository.
    """
    different, folder = [], Path(bundles) if bundles else ROOT / "bundles"
    for bundle in sorted(path.parent.parent for path in folder.glob("*/configs/metadata.json")):
        wanted = {bundle / target: source.read_text(encoding="utf-8") for target, source in FILES.items()}
        for name in ("train.json", "inference.json"):
            config = bundle / "configs" / name
            engine = (CANONICAL / name).read_text(encoding="utf-8")
            wanted[config] = with_engine(config.read_text(encoding="utf-8"), engine)
        readme = bundle / "docs" / "README.md"
        wanted[readme] = with_options(readme.read_text(encoding="utf-8"), bundle / "configs")
        for path, text in wanted.items():
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            different.append(str(path))
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and different:
        sys.exit(f"error: {', '.join(different)} differ from their source; run `python scripts/sync_bundles.py`.")
    print(f"{len(different)} copies written." if not check else "All copies are equal.")


def with_engine(config: str, engine: str) -> str:
    """Return the text of a config with the values of all ids of the engine block replaced.

    Works on the text, so that the layout of the rest, which people wrote, stays.

    Raises:
        ValueError: if the config lacks one of the ids.
    """
    for section, block in json.loads(engine).items():
        parts = list(block) if section in ("train", "validate") else []
        paths: list[tuple[str, ...]] = [(section, part) for part in parts] or [(section,)]
        for path in paths:
            start, end = find_value(config, path)
            source_start, source_end = find_value(engine, path)
            config = config[:start] + engine[source_start:source_end] + config[end:]
    return config


def with_options(readme: str, configs: Path) -> str:
    """Return the text of a README with its tables of options written anew from the configs.

    A table stands between ``<!-- options: train.json -->`` and ``<!-- end -->``.

    Args:
        readme: its text.
        configs: folder of the configs.
    """

    def table(found: re.Match[str]) -> str:
        config = json.loads((configs / found[2]).read_text(encoding="utf-8"))
        return f"{found[1]}{option_table(config)}\n{found[3]}"

    return re.sub(r"(<!-- options: (\S+) -->\n).*?(<!-- end -->)", table, readme, flags=re.DOTALL)


def find_value(text: str, path: tuple[str, ...]) -> tuple[int, int]:
    """Return where the value of a key, or of a key inside an object, starts and ends in the text of a JSON object.

    Example:
        >>> find_value('{"a": {"b": 12}}', ("a", "b"))
        (12, 14)
    """
    decoder, start, end = json.JSONDecoder(), 0, len(text)
    for key in path:
        position = text.index("{", start) + 1
        while True:
            position = text.find('"', position, end)
            if position < 0:
                raise ValueError(f"There is no {'#'.join(path)} in the config; add it, its value is filled in.")
            found, colon = decoder.raw_decode(text, position)
            start = text.index(":", colon) + 1
            start += len(text[start:]) - len(text[start:].lstrip())
            _, value_end = decoder.raw_decode(text, start)
            if found == key:
                end = value_end
                break
            position = value_end
    return start, end
