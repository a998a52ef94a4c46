"""Train a bundle on the labels that were submitted, as its command line would."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask

from lib.bundles import channel_names, class_names, is_trained, trained_options
from med3d_components.utils import write_json
from med3d_components.utils.causes import show_cause
from med3d_components.utils.options import OPTIONS, check_value

__all__ = ["SegmentationTrainTask"]

FINE_TUNING_RATE = 0.001
"""What the bundles take from pre-trained weights."""

OWN = ("bundle_root", "dataset_dir", "run_dir", "output_dir", "ckpt_dir", "epochs", "val_fraction", "device")
"""Ids of train.json that the request gives by other names, or that are not for a client to decide."""


class SegmentationTrainTask(BundleTrainTask):
    """MONAI Label's task, which trains from a dataset.json, so that the bundle's own checks, split and classes hold.

    A request may set ids of train.json by their names. Trained weights are trained further, with the architecture and
    preprocessing that belong to them, unless the request says ``"pretrained": false``.

    Args:
        bundle: folder of a bundle, with weights or without.
        conf: of the app.
    """

    def __init__(self, bundle: Path, conf: dict[str, str]) -> None:
        super().__init__(str(bundle), conf)
        self.bundle = bundle
        self.folder = bundle / "training"
        self.request: dict[str, Any] = {}

    def config(self) -> dict[str, Any]:
        """Return the options of a training: those of MONAI Label, and each id of train.json with one plain value."""
        config = {**self.bundle_config.config, **self._trained()}
        plain = {key: config[key] for key in self._ids() if isinstance(config[key], bool | int | float | str)}
        options = {key: value for key, value in plain.items() if not _is_expression(value)}
        return {**super().config(), "multi_gpu": False, **options}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train; MONAI Label runs this in a process of its own."""
        sys.excepthook = show_cause  # its last lines are what a client reads
        self.bundle_config = self._load_bundle_config(self.bundle_path, self.bundle_config_path)
        own = {"run_id": "training", "multi_gpu": False, "model_filename": "model.pt"}
        self.request = {"pretrained": True, **request, **own}
        return dict(super().__call__(self.request, datastore))

    def _fetch_datalist(self, request: Mapping[str, Any], datastore: Datastore) -> list[dict[str, str]]:
        """Write the labelled scans of the datastore as a dataset.json."""
        items = [{"image": item["image"], "label": item["label"]} for item in datastore.datalist()]
        content: dict[str, Any] = {"labels": _numbered(class_names(self.bundle)), "training": items}
        if names := channel_names(self.bundle):
            content["channel_names"] = _numbered(names)
        write_json(self._dataset() / "dataset.json", content)
        return items

    def _partition_datalist(self, datalist: Any, request: Mapping[str, Any], shuffle: bool = False) -> tuple[Any, None]:
        """Leave the split to the bundle: there a case stays in its set when others are added."""
        return datalist, None

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[dict[str, Any]]) -> None:
        """Add what loads the served weights before a training, and what serves better ones during it."""
        if pretrained and is_trained(self.bundle):
            loader = {"_target_": "med3d_components.handlers.StrictCheckpointLoader", "path": model_pytorch}
            train_handlers.insert(0, {**loader, "network": "@network_def", "settings": "@settings"})
        places = {"trained": str(self.folder / "models"), "served": str(self.bundle / "models")}
        train_handlers.append({"_target_": "lib.publish.Publish", **places})

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Put ids of the bundle where MONAI Label overrides parts of its engine."""
        del overrides["train#dataset#data"]
        overrides.update(self._trained() if self.request["pretrained"] else {})
        overrides.update({key: _plain(key, self.request[key]) for key in self._ids() if key in self.request})
        overrides["dataset_dir"], overrides["run_dir"] = str(self._dataset()), str(self.folder)
        overrides["epochs"] = overrides["train#trainer#max_epochs"]
        if (share := self.request.get("val_split", -1)) > 0:
            overrides["val_fraction"] = share
        return overrides

    def _dataset(self) -> Path:
        return self.folder / "submitted"

    def _ids(self) -> list[str]:
        """Return the ids at the top of train.json that are values, not components."""
        config = self.bundle_config.config
        return [k for k, v in config.items() if not (k.startswith("_") or k in OWN or isinstance(v, dict))]

    def _trained(self) -> dict[str, Any]:
        """Return the ids that trained weights decide."""
        if not is_trained(self.bundle):
            return {}
        options = {**trained_options(self.bundle), "learning_rate": FINE_TUNING_RATE}
        options["model_split#started_from"] = [str(self.bundle / "models" / "model.pt")]
        return {key: value for key, value in options.items() if key not in OWN}


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {str(i): name for i, name in enumerate(names)}


def _plain(key: str, value: Any) -> Any:
    """Return the value of a request, which must be allowed and no code for MONAI's configs to run."""
    if isinstance(value, dict) or any(map(_is_expression, value if isinstance(value, list) else [value])):
        raise ValueError(f"{key} is {value!r}, but a request may only give numbers, words and flat lists of them.")
    return check_value(key, value) if key in OPTIONS else value


def _is_expression(value: Any) -> bool:
    return isinstance(value, dict | list) or (isinstance(value, str) and value[:1] in ("$", "@", "%"))
