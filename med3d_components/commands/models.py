"""Find a bundle and its trained models, and run it."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from med3d_components.settings import read_settings
from med3d_components.utils.causes import own_cause
from med3d_components.utils.command_line import check_known
from med3d_components.utils.option_help import option_names
from med3d_components.utils.options import OPTIONS, PATHS, check_value, is_expression

__all__ = ["Model", "find_bundle", "open_model", "run_bundle"]

HOME = Path(__file__).parents[2]
"""Where the package lies: with all bundles in ``bundles/``, or in a single one that was unpacked."""


class Model(NamedTuple):
    """A trained model on disk.

    Attributes:
        bundle: folder of its bundle.
        ckpt_dir: folder of model.pt and settings.json.
        settings: of its training.
    """

    bundle: Path
    ckpt_dir: Path
    settings: Mapping[str, Any]


@contextmanager
def open_model(path: str) -> Iterator[Model]:
    """Yield a model; that of a zip is unpacked as long as the block runs.

    Args:
        path: folder of model.pt, folder of a bundle, or zip of a bundle with weights.

    Raises:
        FileNotFoundError: if there is no model, or not the bundle that it is of.
        ValueError: for a zip that is none of a bundle.
    """
    with TemporaryDirectory() as unpacked:
        folder = Path(path)
        if folder.is_file() and folder.suffix == ".zip":
            folder = _unpack(folder, Path(unpacked))
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{path} is no folder; name that of model.pt, that of a bundle, or the zip of a bundle with weights."
            )
        ckpt_dir = folder / "models" if (folder / "models" / "model.pt").is_file() else folder
        if not (ckpt_dir / "model.pt").is_file():
            raise FileNotFoundError(f"{path} holds no model.pt, nor does its models/; train first.")
        settings = read_settings(ckpt_dir / "settings.json", option="model")
        beside = ckpt_dir.parent
        bundle = beside if (beside / "configs" / "inference.json").is_file() else find_bundle(settings["bundle"])
        yield Model(bundle, ckpt_dir, settings)


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle.

    Args:
        name: of the bundle, or its folder.

    Raises:
        FileNotFoundError: if there is none of that name.
    """
    known = {path.parents[1].name: path.parents[1] for path in sorted(HOME.glob("bundles/*/configs/train.json"))}
    for folder in (Path(name), known.get(name, HOME)):
        if (folder / "configs" / "train.json").is_file():
            return folder
    raise FileNotFoundError(f"There is no bundle {name}; name its folder, or one of {', '.join(known) or 'none here'}.")


def run_bundle(run_id: str, bundle: Path, configs: Sequence[str], options: Mapping[str, Any]) -> None:
    """Run a bundle as ``python -m monai.bundle run`` does.

    Args:
        run_id: "training", "evaluating" or "inference".
        bundle: its folder.
        configs: names of its configs, without their ending.
        options: ids of the configs; None for the default.

    Raises:
        ValueError: for an unknown option, and what the run raises; errors have not MONAI's chain.
    """
    from monai.bundle import run  # takes seconds

    files = [bundle / "configs" / f"{name}.json" for name in configs]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{missing[0]} does not exist.")
    known = set().union(*(option_names(json.loads(file.read_text(encoding="utf-8"))) for file in files))
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        check_known(name, known, f"the {run_id} of {bundle.name}")
        if OPTIONS[name].kind in PATHS:
            # Absolute, so that MONAI takes no beginning of a name for an expression.
            given[name] = str(Path(check_value(name, str(value))).absolute())
        elif isinstance(value, str) and is_expression(value):
            raise ValueError(f"{name} is {value!r}, which MONAI would evaluate; name a value.")
    try:
        with warnings.catch_warnings():
            # MONAI warns that configs are code, which the help of these commands says of zips.
            warnings.filterwarnings("ignore", "parsing config_file")
            run(run_id, config_file=[str(file) for file in files], **given)
    except RuntimeError as error:
        raise own_cause(error) from None


def _unpack(path: Path, folder: Path) -> Path:
    """Unpack a zip, and return the folder of its bundle."""
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as e:
        raise ValueError(f"{path} is no zip, or is cut off ({e}); download it anew.") from e
    found = [config.parents[1] for config in folder.glob("*/configs/inference.json")]
    if len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} bundles, but must hold one.")
    return found[0]
