"""The bundles in the app's folder, and what their files say of them."""

from __future__ import annotations

import json
import re
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

__all__ = ["channel_names", "class_names", "find_bundles", "is_trained", "trained_options"]

KINDS = ("segmentation", "classification")
"""The word in a bundle's name that tells what it answers."""

TRAINED = re.compile(r"\$@trained((?:\['\w+'\])+)")


def find_bundles(folder: Path, wanted: str | None = None) -> dict[str, Path]:
    """Return name to folder of the bundles to serve.

    Args:
        folder: that holds one folder per bundle.
        wanted: names joined by commas, as ``--conf models`` gives them; all by default.

    Raises:
        FileNotFoundError: if the folder holds no bundle that answers anything.
        ValueError: for a name that is not there.
    """
    paths = [path.parents[1] for path in sorted(folder.glob("*/configs/metadata.json"))]
    known = {path.name: path for path in paths if any(kind in path.name for kind in KINDS)}
    if not known:
        raise FileNotFoundError(f"{folder} holds no bundle; write the app with scripts/monailabel_app.py.")
    names = [name.strip() for name in (wanted or ",".join(known)).split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"--conf models: there is no {', '.join(unknown)}; this app has {', '.join(known)}.")
    return {name: known[name] for name in names}


def is_trained(bundle: Path) -> bool:
    """Tell whether a bundle has weights and the settings that build their network."""
    return all((bundle / "models" / name).is_file() for name in ("model.pt", "settings.json"))


def class_names(bundle: Path) -> list[str]:
    """Return the classes of the weights, background first; without weights those in the metadata."""
    if is_trained(bundle):
        return list(_read(bundle / "models" / "settings.json")["classes"])
    described = _read(bundle / "configs" / "metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    return [described[str(i)] for i in range(len(described))]


def channel_names(bundle: Path) -> list[str]:
    """Return the channels of a scan as the weights know them, none if there are no weights or they name none."""
    return list(_read(bundle / "models" / "settings.json").get("channel_names", [])) if is_trained(bundle) else []


def trained_options(bundle: Path) -> dict[str, Any]:
    """Return what the training of the weights decided, as ids of train.json, so that a further one cannot disagree.

    The bundle's evaluate.json names these ids, since an evaluation must not disagree either. Those that it describes
    are options of its own.
    """
    settings, overlay = (_read(bundle / name) for name in ("models/settings.json", "configs/evaluate.json"))
    found = {key: TRAINED.fullmatch(str(value)) for key, value in overlay.items()}
    own = {key for key in overlay if f"_desc_{key}" in overlay}
    fixed = {key: value for key, value in overlay.items() if value is None or isinstance(value, bool)}
    fixed = {key: value for key, value in fixed.items() if key not in own}
    return {**fixed, **{key: _entry(settings, match[1]) for key, match in found.items() if match}}


def _entry(settings: Any, path: str) -> Any:
    """Return the entry of a path such as ``['network']['in_channels']``."""
    return reduce(getitem, re.findall(r"\w+", path), settings)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
