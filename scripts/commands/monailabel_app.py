"""The code of ``scripts/monailabel_app.py``: a folder of the app's source and the bundles it serves."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

__all__ = ["find_zips", "write_app"]

SOURCE = Path(__file__).parents[2] / "apps" / "monailabel"
NAME = re.compile(r"(?P<name>\w+?)_v(?P<version>\d+\.\d+\.\d+)(?P<weights>_model)?\.zip")


def write_app(out: str, zips: str = "dist") -> None:
    """Write the folder of an app.

    Args:
        out: folder for the app; it must not be there yet.
        zips: folder of the zips that scripts/pack_bundles.py wrote.

    Raises:
        FileExistsError: if the folder of the app is there.
        FileNotFoundError: if there are no zips.
        ValueError: if the zips do not go together, or one of them is not a bundle.
    """
    app, found = Path(str(out)), find_zips(Path(str(zips)))
    if app.exists():
        raise FileExistsError(f"{app} is there already, perhaps with networks trained in it; name another folder.")
    app.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=app.parent) as temporary:
        folder = Path(temporary, app.name)
        shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for name, path in found.items():
            _unpack(path, name, folder / "model")
        _check_packages(folder / "model")
        folder.replace(app)
    for name, path in found.items():
        trained = (app / "model" / name / "models" / "model.pt").is_file()
        print(f"{name} from {path}{'' if trained else ', without weights, so it must be trained first'}")
    print(f"{app} is written. To serve it: monailabel start_server --app {app} --studies FOLDER_OF_SCANS")


def find_zips(folder: Path) -> dict[str, Path]:
    """Return name to zip of the bundles in a folder, with weights where there are such.

    Raises:
        FileNotFoundError: if there are no zips.
        ValueError: if there are several versions of one bundle.
    """
    matches = {path: NAME.fullmatch(path.name) for path in sorted(folder.glob("*.zip"))}
    zips = {path: match for path, match in matches.items() if match}
    if not zips:
        raise FileNotFoundError(f"{folder} holds no packed bundle; write some with scripts/pack_bundles.py.")
    for name in {match["name"] for match in zips.values()}:
        versions = sorted({match["version"] for match in zips.values() if match["name"] == name})
        if len(versions) > 1:
            raise ValueError(f"{folder} holds {name} in the versions {', '.join(versions)}; keep one of them.")
    return {match["name"]: path for path, match in sorted(zips.items(), key=lambda item: bool(item[1]["weights"]))}


def _unpack(path: Path, name: str, folder: Path) -> None:
    """Unpack the zip of a bundle, all of whose files lie in a folder of its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [PurePosixPath(entry).parts for entry in archive.namelist()]
            if not parts or any(part[0] != name or ".." in part for part in parts):
                raise ValueError(f"{path} is not a zip of {name}; write it anew with scripts/pack_bundles.py.")
            archive.extractall(folder)
    except zipfile.BadZipFile as e:
        raise ValueError(f"{path} is damaged ({e}); write it anew with scripts/pack_bundles.py.") from e
    if not (folder / name / "configs" / "metadata.json").is_file():
        raise ValueError(f"{path} has no configs/metadata.json; write it anew with scripts/pack_bundles.py.")


def _check_packages(folder: Path) -> None:
    """Refuse bundles that carry different packages: a server imports one for all of them."""
    notes = {path.parents[1].name: path for path in sorted(folder.glob("*/med3d_components/_vendored.json"))}
    hashes = {name: json.loads(path.read_text(encoding="utf-8"))["sha256"] for name, path in notes.items()}
    if len(set(hashes.values())) > 1:
        first = next(iter(hashes))
        others = [name for name, value in hashes.items() if value != hashes[first]]
        raise ValueError(
            f"{', '.join(others)} and {first} were packed from different sources, but one server imports one; "
            "pack them anew with scripts/pack_bundles.py."
        )
