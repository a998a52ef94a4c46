"""The code of ``scripts/pack_bundles.py``: the zip of a bundle, which carries the package and perhaps weights."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from med3d_components import __version__
from med3d_components.data.split_file import without_names
from med3d_components.records import RECORD, read_record
from med3d_components.settings import read_settings
from med3d_components.utils import atomic_path
from med3d_components.utils.files import file_digest
from med3d_components.utils.option_help import option_names
from scripts.commands.anonymous import anonymous_record
from scripts.commands.model_card import model_card, with_card
from scripts.commands.reach import find_imported, names_in

__all__ = ["pack_bundle", "pack_bundles"]

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "bundles"
PARTS = ("LICENSE", "NOTICE", "large_files.yml", "configs/*", "docs/*")


def pack_bundles(name: str | None = None, weights: str | None = None, out: str = "dist") -> None:
    """Write the zip of one bundle, or of all of them, into a folder.

    Args:
        name: of the bundle; all by default.
        weights: the ``models/model.pt`` of a training, with settings.json next to it; the zip's name then ends in
            _model.
        out: folder for the zips.

    Raises:
        FileNotFoundError: if there is no such bundle or weights.
        ValueError: if weights are given without the name of their bundle, or do not fit it.
    """
    if name is None and weights is not None:
        raise ValueError("--weights belong to one bundle: put its name first.")
    known = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))
    if name is not None and name not in known:
        raise FileNotFoundError(f"There is no bundle {name}; there are {', '.join(known)}.")
    for one in [name] if name else known:
        path = pack_bundle(BUNDLES / one, Path(out), Path(weights) if weights else None)
        print(f"{path} {path.stat().st_size / 1e6:.2f} MB")


def pack_bundle(bundle: Path, out: Path, weights: Path | None = None) -> Path:
    """Write the zip of a bundle and return its path; an earlier one is replaced.

    With weights go their settings, and their run.json and split.json where there are any, without paths, names of
    cases, and what tells of the machine's owner; the README gets a model card.

    Args:
        bundle: folder of the bundle.
        out: folder for the zip.
        weights: of a training of the bundle.

    Raises:
        FileNotFoundError: if the weights or their settings are missing.
        ValueError: if the weights are not of this bundle.
    """
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for part in PARTS for path in bundle.glob(part)}
    # A user of the zip starts where it is unpacked.
    files["docs/README.md"] = files["docs/README.md"].replace(b"bundles/", b"")
    files |= vendored_package()
    if weights is not None:
        files |= with_weights(files, bundle, weights)
    version = json.loads(files["configs/metadata.json"])["version"]
    target = out / f"{bundle.name}_v{version}{'_model' if weights else ''}.zip"
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{bundle.name}/{path}")  # of 1980: the time of packing is no part of the content
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    return target


def vendored_package() -> dict[str, bytes]:
    """Return the files of the package that bundles reach, and a note of their version and hash.

    They are the same in each zip: of two in one process, the first one's package serves both.
    """
    names = set().union(*(names_in(path.read_text(encoding="utf-8")) for path in BUNDLES.glob("*/configs/*")))
    content = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in find_imported(names).values()}
    digest = hashlib.sha256()
    for name, data in sorted(content.items()):
        digest.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    note = {"version": __version__, "sha256": digest.hexdigest()}
    return {**content, "med3d_components/_vendored.json": _as_json(note)}


def with_weights(files: Mapping[str, bytes], bundle: Path, weights: Path) -> dict[str, bytes]:
    """Return what weights add to a bundle's files, and the configs that they change.

    Raises:
        FileNotFoundError: if the weights or their settings are missing.
        ValueError: if the weights are not of this bundle.
    """
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} does not exist; name the models/model.pt of a training of {bundle.name}.")
    settings = read_settings(weights.with_name("settings.json"), option="weights")
    if settings["bundle"] != bundle.name:
        raise ValueError(f"{weights} is of a training of {settings['bundle']}; pack it with that name.")
    _check_fit(bundle, weights, settings)
    names = ("inference", "metadata", "train")
    inference, metadata, train = (json.loads(files[f"configs/{name}.json"]) for name in names)
    inference["settings"]["default"] = settings
    # So that the network of train.json, which MONAI's `load` takes, is that of the weights.
    network = settings["network"]
    found = {
        **{name: value for name, value in network.items() if value is not None and name in option_names(train)},
        "default_classes": settings.get("classes"),
        "coarse_checkpoint": "$@bundle_root + '/models/model.pt'",
        "patch_size": network.get("roi_size", train["patch_size"]),
    }
    train |= {name: value for name, value in found.items() if name in train}
    if "members" in network:  # of which options of a training say nothing
        train["network_settings"] = network
    metadata["data_source"] = " and ".join(settings["trained_on"])
    classes = settings.get("classes")
    if classes:  # a pre-training has those of each of its domains; the first is what inference takes by default
        names = next(iter(classes.values())) if isinstance(classes, dict) else classes
        metadata["network_data_format"]["outputs"]["pred"].update(_described(names))
    if len(channels := settings.get("channel_names", ())) > 1:
        metadata["network_data_format"]["inputs"]["image"].update(_described(channels))
    record, split = (weights.with_name(name) for name in (RECORD, "split.json"))
    told: dict[str, bytes] = {}
    made = None
    if record.is_file():
        made = anonymous_record(read_record(record))
        _check_record(record, made, weights, bundle)
        told[f"models/{RECORD}"] = _as_json(made)
    if split.is_file():
        told["models/split.json"] = _as_json(without_names(json.loads(split.read_text(encoding="utf-8"))))
    readme = files["docs/README.md"].decode()
    return {
        **told,
        "docs/README.md": with_card(readme, model_card(settings, metadata, made)).encode(),
        "configs/inference.json": _as_json(inference),
        "configs/metadata.json": _as_json(metadata),
        "configs/train.json": _as_json(train),
        "models/model.pt": weights.read_bytes(),
        "models/settings.json": _as_json(settings),
    }


def _check_record(path: Path, record: Mapping[str, Any], weights: Path, bundle: Path) -> None:
    """Refuse a record that is not of the weights; one of a training that was stopped names none."""
    if record["bundle"]["name"] != bundle.name:
        raise ValueError(f"{path} is of a training of {record['bundle']['name']}; move it away from {weights.name}.")
    known = record["files"].get("model.pt")
    if known is not None and known != file_digest(weights):
        raise ValueError(f"{path} is not of {weights}, but of other weights; move it away, or put the right one there.")


def _described(names: Sequence[str]) -> dict[str, Any]:
    """Return channels as metadata describe them."""
    return {"num_channels": len(names), "channel_def": {str(i): name for i, name in enumerate(names)}}


def _check_fit(bundle: Path, weights: Path, settings: Mapping[str, Any]) -> None:
    """Load the weights into the network of the bundle, all of them."""
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    parser["settings"] = dict(settings)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        parser.get_parsed_content("network_def").load_state_dict(state)
    except Exception as e:  # torch and pickle have many for a file that is not theirs or not of this network
        reason = str(e).splitlines()[0]
        raise ValueError(f"{weights} does not fit {bundle.name} with the settings beside it ({reason}).") from e


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=4) + "\n").encode()
