"""What the tests of all bundles share: copies to write into, and what a run leaves behind."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ckpt_export, verify_net_in_out
from torch import nn

from med3d_components.utils import write_json
from tests.conftest import ROOT


def copy_bundle(name: str, folder: Path) -> Path:
    """Return a copy of a bundle, so that runs may write into it."""
    ignored = shutil.ignore_patterns("models", "checkpoints", "eval")
    return Path(shutil.copytree(ROOT / "bundles" / name, folder / name, ignore=ignored))


def configs(bundle: Path, *names: str) -> str:
    """Return several configs of a bundle as the command line takes them."""
    return str([str(bundle / "configs" / f"{name}.json") for name in names])


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_export(
    bundle: Path, network: nn.Module, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.jit.ScriptModule, torch.Tensor]:
    """Export a bundle's network, compare it with the original and the metadata, and return it with an image."""
    write_json(bundle / "models" / "settings.json", settings)
    torch.save(network.eval().state_dict(), bundle / "models" / "model.pt")
    monkeypatch.chdir(bundle)
    arguments = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}
    ckpt_export("network_def", filepath="model.ts", ckpt_file="models/model.pt", key_in_ckpt="", **arguments)
    exported, image = torch.jit.load("model.ts").eval(), torch.rand(1, 1, 24, 20, 17)
    with torch.no_grad():
        assert torch.allclose(exported(image), network(image), atol=1e-5)
    verify_net_in_out("network_def", **arguments, device="cpu", p=1, n=4, any=32)
    return exported, image


class BrightIsForeground(nn.Module):
    """A network whose result is known: what is brighter than its one parameter is class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.threshold - x, x - self.threshold], dim=1)
