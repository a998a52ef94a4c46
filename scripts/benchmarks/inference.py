"""Inference over a whole scan, against MONAI's sliding window; and its memory from file to file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import set_determinism

from med3d_components.inferers import BodyWindowInferer, FastInferer
from med3d_components.networks import Med3DSegmentationNet, build_network
from med3d_components.utils import write_json
from scripts.benchmarks.cases import BUNDLES, check_case, dice, segment, trained_case, with_stock_layers
from scripts.benchmarks.stopwatch import Measured, Row, as_row, measure, report

__all__ = ["inference", "inference_memory"]

CLASSES = ("background", "right lung", "left lung")

RUN = """
import sys
from monai.bundle import run
from scripts.benchmarks.stopwatch import peak_memory
run("inference", config_file=sys.argv[1], bundle_root=sys.argv[2])
print(peak_memory())
"""


def inference(
    size: Sequence[int] = (273, 273, 300),
    depth: int = 10,
    region: Sequence[int] = (96, 96, 96),
    ckpt_dir: str | None = None,
    image: str | None = None,
    repeats: int = 1,
    out: str | None = None,
) -> None:
    """Compare the inference of lung_segmentation with MONAI's SlidingWindowInferer in float32.

    The scan is a synthetic body of 84 by 60 % of the field of view with two lungs, in air; the default size is that of
    a CT of 512x512x300 voxels of 0.8x0.8x1.5 mm at a spacing of 1.5 mm. The network's weights are random, and its
    logits are small beside a threshold that finds the lungs. With ``ckpt_dir`` and ``image`` it is a real scan and a
    trained network instead, and the first three arguments are not used.

    One row for all together and one for each ingredient alone in a network of torch's own layers, all with Gaussian
    weights, an overlap of 0.25 and one window at a time; "dice" is that of the masks of both inferers, the mean of the
    classes; peak memory is above what was held before.

    Args:
        size: of the scan, in voxels.
        depth: of the network.
        region: window in voxels.
        ckpt_dir: of a training of lung_segmentation.
        image: scan for it.
        repeats: runs of each, the median is reported; one for runs over 30 s.
        out: folder for inference.csv and inference.json; nothing is written without it.
    """
    set_determinism(0)
    if check_case(ckpt_dir, image):
        network, scan, settings = trained_case("lung_segmentation", str(ckpt_dir), str(image))
        region = settings["roi_size"]
    else:
        network, scan = _MarkedNet(len(CLASSES), depth).eval(), _chest(size)
    stock = with_stock_layers(network)
    runs = {
        name: partial(segment, inferer, scan, network if name == "all" else stock)
        for name, inferer in _inferers(region).items()
    }
    measured = measure(runs, repeats)
    baseline = measured.pop("baseline")
    rows = [_row(name, ours, baseline) for name, ours in measured.items()]
    about = {"scan": list(scan.shape[2:]), "region": list(region), "depth": network.encoder.settings["depth"]}
    report("inference", rows, about, out)


def _inferers(region: Sequence[int]) -> dict[str, Inferer]:
    whole, body = SlidingWindowInferer(region, overlap=0.25, mode="gaussian"), BodyWindowInferer(region)
    return {
        "baseline": whole,
        "all": FastInferer(body, fuse=True),
        "precision": FastInferer(whole),
        "fused, channels last": FastInferer(whole, "float32", fuse=True),
        "body alone": body,
    }


def _row(name: str, ours: Measured, baseline: Measured) -> Row:
    return {**as_row(name, ours, baseline), "dice": dice(ours.result.argmax(1), baseline.result.argmax(1))}


class _MarkedNet(Med3DSegmentationNet):
    """A network of random weights whose logits are a small part of those of a threshold for the lungs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map windows (B, 1, H, W, D) to logits (B, 3, H, W, D)."""
        lung = 20 * (0.25 - (x + 0.5).abs())
        return super().forward(x) + torch.cat([-lung, lung, lung - 20], dim=1)


def _chest(size: Sequence[int]) -> MetaTensor:
    """Make a scan (1, 1, H, W, D): air around -1, a body around 1, two lungs around -0.5; alike along D."""
    x, y = (torch.linspace(-0.5, 0.5, n) for n in size[:2])
    body = (x[:, None] / 0.42).square() + (y / 0.3).square() < 1
    lungs = ((x[:, None].abs() - 0.17) / 0.13).square() + (y / 0.22).square() < 1
    plane = torch.where(lungs, -0.5, torch.where(body, 1.0, -1.0))[None, None, :, :, None]
    return MetaTensor(plane + 0.02 * torch.randn(1, 1, *size))


def inference_memory(
    size: Sequence[int] = (512, 512, 600),
    spacing: Sequence[float] = (0.8, 0.8, 1.0),
    target: Sequence[float] = (1.5, 1.5, 1.5),
    depth: int = 10,
    region: Sequence[int] = (96, 96, 96),
    out: str | None = None,
) -> None:
    """Measure the peak memory of lung_segmentation's inference in a process of its own, from scan to written mask.

    The scan is the synthetic body of the command ``inference`` in HU, the network's three classes have random weights.
    "peak_mib" is the greatest resident memory of the whole process, the interpreter and its libraries included.

    Args:
        size: of the scan, in voxels.
        spacing: of the scan, in mm.
        target: spacing that the network works at, in mm.
        depth: of the network.
        region: window in voxels.
        out: folder for inference_memory.csv and inference_memory.json; nothing is written without it.
    """
    set_determinism(0)
    with TemporaryDirectory() as folder:
        _write_case(Path(folder), size, spacing, target, depth, region)
        config = BUNDLES / "lung_segmentation" / "configs" / "inference.json"
        command = [sys.executable, "-c", RUN, str(config), folder]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=BUNDLES.parent, check=True, stdout=subprocess.PIPE, encoding="utf-8")
        seconds = time.perf_counter() - start
    row: Row = {"name": "scan to mask", "seconds": seconds, "peak_mib": float(done.stdout.split()[-1])}
    settings = {"size": list(size), "spacing": list(spacing), "target": list(target), "depth": depth}
    report("inference_memory", [row], {**settings, "region": list(region)}, out)


def _write_case(
    folder: Path,
    size: Sequence[int],
    spacing: Sequence[float],
    target: Sequence[float],
    depth: int,
    region: Sequence[int],
) -> None:
    """Write what a training would leave in a bundle, and a scan for it."""
    network = build_network({"task": "segmentation", "num_classes": len(CLASSES), "depth": depth})
    settings: dict[str, Any] = {"bundle": "lung_segmentation", "network": network.settings, "classes": CLASSES}
    settings |= {"spacing": target, "roi_size": region, "channel": None, "percentiles": [0.5, 99.5]}
    write_json(folder / "models" / "settings.json", {**settings, "intensity_range": None})
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    scan = nib.Nifti1Image((1000 * _chest(size)[0, 0]).numpy().astype(np.int16), np.diag([*spacing, 1.0]))
    (folder / "data").mkdir()
    nib.save(scan, folder / "data" / "ct.nii.gz")
