"""What comparisons share: a trained bundle, a network of stock layers, a run, and how far two masks agree."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import Inferer

from med3d_components.networks.layers import DilatedConv3d, FastMaxPool3d
from med3d_components.weights import load_checkpoint

__all__ = ["BUNDLES", "check_case", "dice", "segment", "trained_case", "with_stock_layers"]

BUNDLES = Path(__file__).parents[2] / "bundles"


def check_case(ckpt_dir: str | None, image: str | None) -> bool:
    """Tell whether a trained network is to run on a scan; one alone is an error."""
    if (ckpt_dir is None) != (image is None):
        raise ValueError("Give both ckpt_dir and image, or neither.")
    return ckpt_dir is not None


def trained_case(bundle: str, ckpt_dir: str, image: str) -> tuple[Any, MetaTensor, dict[str, Any]]:
    """Return a bundle's trained network, a scan (1, C, H, W, D) prepared for it, and the settings of its training."""
    parser = ConfigParser()
    parser.read_config(BUNDLES / bundle / "configs" / "inference.json")
    parser.update({"bundle_root": str(BUNDLES / bundle), "ckpt_dir": ckpt_dir, "dataset_dir": image})
    network = parser.get_parsed_content("network_def").eval()
    load_checkpoint(network, Path(ckpt_dir, "model.pt"))
    scan = parser.get_parsed_content("dataset")[0]["image"]
    return network, MetaTensor(scan[None], affine=scan.affine), parser.get_parsed_content("settings")


def with_stock_layers(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a network whose layers are torch's own, as a baseline."""
    network = deepcopy(network)
    for module in network.modules():
        for ours, stock in ((DilatedConv3d, torch.nn.Conv3d), (FastMaxPool3d, torch.nn.MaxPool3d)):
            if isinstance(module, ours):
                module.__class__ = stock  # type: ignore[assignment]
    return network


def segment(inferer: Inferer, scan: MetaTensor, network: torch.nn.Module) -> torch.Tensor:
    """Return the logits (1, C, H, W, D) of a scan."""
    with torch.inference_mode():
        return torch.as_tensor(inferer(scan, network))


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the mean Dice of two label maps over the classes that either of them has, NaN without any."""
    scores = [
        float(2 * ((a == label) & (b == label)).sum() / ((a == label).sum() + (b == label).sum()))
        for label in range(1, int(max(a.max(), b.max())) + 1)
        if (a == label).any() or (b == label).any()
    ]
    return sum(scores) / len(scores) if scores else float("nan")
