"""What the tests of all bundles share: copies to write into, and what a run leaves behind."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import torch
from torch import nn

from tests.conftest import ROOT


def copy_bundle(name: str, folder: Path) -> Path:
    """Return a copy of a bundle, so that runs may write into it."""
    ignored = shutil.ignore_patterns("models", "checkpoints", "eval")
    return Path(shutil.copytree(ROOT / "bundles" / name, folder / name, ignore=ignored))


def configs(bundle: Path, *names: str) -> str:
    """Return several configs of a bundle as the command line takes them."""
    return str([str(bundle / "configs" / f"{name}.json") for name in names])


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class BrightIsForeground(nn.Module):
    """A network whose result is known: what is brighter than its one parameter is class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.threshold - x, x - self.threshold], dim=1)
