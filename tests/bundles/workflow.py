"""What the tests of all bundles share: copies to write into, and what a run leaves behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out
from torch import nn

from med3d_components.utils import write_json
from scripts.commands.pack_bundles import pack_bundle
from tests.conftest import ROOT, write_domain


def copy_bundle(name: str, folder: Path) -> Path:
    """Return a copy of a bundle, so that runs may write into it."""
    ignored = shutil.ignore_patterns("models", "checkpoints", "eval")
    return Path(shutil.copytree(ROOT / "bundles" / name, folder / name, ignore=ignored))


def configs(bundle: Path, *names: str) -> str:
    """Return several configs of a bundle as the command line takes them."""
    return str([str(bundle / "configs" / f"{name}.json") for name in names])


def read_config(bundle: Path, name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    return config


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    """Return what a user sees in a folder."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def write_data(folder: Path) -> Path:
    """Write scans of several spacings, turned, with a dataset.json of segmentations and one of nodules."""
    scans = write_domain(folder / "Scans", cases=6, size=(32, 28, 24))
    for case in range(6):
        for kind in ("images", "labels"):
            path = scans / f"{kind}Tr" / f"case_{case}.nii.gz"
            volume = np.asarray(nib.load(path).dataobj)
            nib.save(nib.Nifti1Image(volume, np.diag([-1 - case / 10, 1, 1.5, 1])), path)
    nodules = [
        {"image": f"../Scans/imagesTr/case_{case}.nii.gz", "malignancy": 1 + 4 * (case % 2), "patient": str(case)}
        for case in range(6)
    ]
    write_json(folder / "Nodules" / "dataset.json", {"name": "Nodules", "nodules": nodules})
    return folder


def source_of(bundle: Path, data: Path, config: str) -> Path:
    """Return what a training or an inference of a bundle reads of this data."""
    scans = data / "Scans"
    if bundle.name == "lung_nodule_ct_classification":
        return data / "Nodules"
    return scans / "imagesTr" if config == "inference" else scans


def small_training(bundle: Path, data: Path, **changes: Any) -> ConfigParser:
    """Return the training of a bundle, of the size of its smoke.json, on this data."""
    content = ConfigParser.load_config_files([bundle / "configs" / f"{name}.json" for name in ("train", "smoke")])
    parser = ConfigParser({**content, **changes})
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(source_of(bundle, data, "train"))
    return parser


def leave_model(bundle: Path, data: Path, scan: Any = None, **changes: Any) -> nn.Module:
    """Write what a training of no epochs would leave behind in a bundle, and return the network."""
    training = small_training(bundle, data, **changes)
    write_json(bundle / "models" / "settings.json", training.get_parsed_content("settings"))
    inference = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    inference["bundle_root"] = str(bundle)
    scan = {"image": scan or str(data / "Scans" / "imagesTr" / "case_0.nii.gz")}
    network: nn.Module = training.get_parsed_content("network_def")
    settle(network, inference.get_parsed_content("preprocessing")(scan)["image"].as_tensor()[None])
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return network


@torch.no_grad()
def settle(network: nn.Module, image: torch.Tensor) -> None:
    """Give the BatchNorms of an untrained network the statistics of an image, and each class some of its voxels."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    for norm in norms:
        norm.momentum = 1
    network.train()(image)
    for norm in norms:
        norm.running_var.clamp_(min=1)  # nothing is to be blown up
    coarse = getattr(network.eval(), "coarse", None)
    for part in (network, coarse) if coarse else (network,):
        logits = part(image)
        if logits.ndim == 5 and logits.shape[1] > 1:
            own = [x for name, x in part.named_parameters() if not name.startswith("coarse.")]
            own[-1] -= logits[0].flatten(1).median(dim=1).values  # the bias of the last layer


def unpack_model(bundle: Path, folder: Path) -> Path:
    """Pack a bundle with its model, and return where the zip of that was unpacked."""
    path = pack_bundle(ROOT / "bundles" / bundle.name, folder, bundle / "models" / "model.pt")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked" / bundle.name


EXPORT = {"net_id": "network_def", "meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}
"""What MONAI's exports are told inside a bundle."""


def export_torchscript(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Export a bundle's model and return it with the configs inside it."""
    monkeypatch.chdir(bundle)
    ckpt_export(filepath="models/model.ts", ckpt_file="models/model.pt", key_in_ckpt="", **EXPORT)
    inside = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load("models/model.ts", _extra_files=inside).eval()
    return exported, {name: json.loads(text) for name, text in inside.items()}


def check_export(bundle: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export a bundle's model, and compare it with the original and the metadata."""
    exported, _ = export_torchscript(bundle, monkeypatch)
    image = torch.rand(1, 1, 24, 20, 17)
    with torch.no_grad():
        assert torch.allclose(exported(image), network(image), atol=1e-5)
        if hasattr(network, "locate"):
            assert torch.allclose(exported.locate(image), network.locate(image), atol=1e-5)
    verify_net_in_out(**EXPORT, device="cpu", p=1, n=4, any=32)


class BrightIsForeground(nn.Module):
    """A network whose result is known: what is brighter than its one parameter is class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.threshold - x, x - self.threshold], dim=1)


class DieInTheSecondEpoch:
    """The fate of the second of several processes, unless torchrun has started them again."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.die)

    def die(self, engine: Engine) -> None:
        fresh = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if engine.state.epoch == 2 and idist.get_rank() == 1 and fresh:  # after a step: the first one has saved by then
            os.kill(os.getpid(), signal.SIGKILL)
