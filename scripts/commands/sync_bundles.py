"""The code of ``scripts/sync_bundles.py``: copies of files, and of the last part of the configs."""

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
WIRING = '"_desc_wiring"'


def sync(check: bool = False, bundles: str | None = None) -> None:
    """Copy the canonical files and the wiring of the engines into every bundle.

    Args:
        check: change nothing; print what differs and exit with 1 if anything does.
        bundles: folder of the bundles; by default that of this repository.
    """
    different, folder = [], Path(bundles) if bundles else ROOT / "bundles"
    for bundle in sorted(path.parent.parent for path in folder.glob("*/configs/metadata.json")):
        wanted = {bundle / target: source.read_text(encoding="utf-8") for target, source in FILES.items()}
        for name in ("train.json", "evaluate.json", "inference.json"):
            config = bundle / "configs" / name
            wiring = (CANONICAL / name).read_text(encoding="utf-8")
            wanted[config] = with_wiring(config.read_text(encoding="utf-8"), wiring)
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


def with_wiring(config: str, wiring: str) -> str:
    """Return the text of a config with its last part, from ``_desc_wiring`` on, replaced.

    Args:
        config: its text.
        wiring: text of a config that holds that part alone.

    Raises:
        ValueError: if the config has no such part.

    Example:
        >>> with_wiring('{"a": 1, "_desc_wiring": "old"}', '{"_desc_wiring": "new", "run": "%training"}')
        '{"a": 1, "_desc_wiring": "new", "run": "%training"}'
    """
    if WIRING not in config:
        raise ValueError(f"A config has no {WIRING}, where the part begins that all bundles share; add it.")
    return config[: config.index(WIRING)] + wiring[wiring.index(WIRING) :]


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
