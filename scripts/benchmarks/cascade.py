"""The cascade, against sliding its fine network over the whole scan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import get_largest_connected_component_mask
from monai.utils import set_determinism

from med3d_components.inferers import CascadeInferer, FastInferer
from med3d_components.networks import CascadeNet, Med3DNet
from med3d_components.utils.precision import choose_precision
from scripts.benchmarks.cases import check_case, dice, segment, trained_case
from scripts.benchmarks.stopwatch import Measured, Row, as_row, measure, report

__all__ = ["cascade"]


def cascade(
    size: Sequence[int] = (512, 512, 300),
    spacing: Sequence[float] = (0.8, 0.8, 1.5),
    depth: int = 10,
    region: Sequence[int] = (128, 128, 128),
    coarse_size: Sequence[int] = (96, 96, 96),
    ckpt_dir: str | None = None,
    image: str | None = None,
    precision: str = "auto",
    repeats: int = 1,
    out: str | None = None,
) -> None:
    """Compare the cascade with sliding its fine network over the whole scan.

    The scan is a synthetic ellipsoid of a liver's size; the network's weights are random, and its logits are small
    beside a threshold that finds the ellipsoid. With ``ckpt_dir`` and ``image`` it is a real scan and a trained network
    at the spacing of its training instead, and the first five arguments are not used.

    Columns: "volume ratio" is that of scan to region, "share of it" what part of it the saving in time reaches; "dice"
    is that of the two masks, of the whole scan's the largest component; peak memory is above what was held before.

    Args:
        size: of the scan, in voxels.
        spacing: of the scan, in mm.
        depth: of both networks.
        region: window of the fine network, in voxels.
        coarse_size: voxels that the coarse network sees.
        ckpt_dir: of a training of liver_ct_fine_segmentation.
        image: scan for it.
        precision: of all runs: auto, bf16, fp16 or float32.
        repeats: runs of each, the median is reported; one for runs over 30 s.
        out: folder for cascade.csv and cascade.json; nothing is written without it.
    """
    set_determinism(0)
    if check_case(ckpt_dir, image):
        network, scan, trained = trained_case("liver_ct_fine_segmentation", str(ckpt_dir), str(image))
        region, coarse_size = trained["roi_size"], trained["coarse"]["roi_size"]
    else:
        network, scan = _marked_network(depth, region), _ellipsoid_scan(size, spacing)
    inferer = CascadeInferer(region, coarse_size, sw_batch_size=1)
    whole = SlidingWindowInferer(region, sw_batch_size=1, overlap=0.25, mode="gaussian")
    runs = {
        name: partial(segment, FastInferer(each, precision), scan, network)
        for name, each in {"cascade": inferer, "whole": whole}.items()
    }
    measured = measure(runs, repeats)
    rows = [_cascade_row(measured["cascade"], measured["whole"], inferer.regions[0])]
    settings = {
        "scan": list(scan.shape[2:]),
        "region": list(region),
        "precision": choose_precision(precision).name,
        "depth": network.encoder.settings["depth"],
    }
    report("cascade", rows, settings, out)


def _cascade_row(ours: Measured, whole: Measured, region: Any) -> Row:
    if region is None:
        raise ValueError("The coarse network found nothing in this scan, so there is nothing to compare.")
    inside = (slice(None), slice(None), *(slice(*edges) for edges in region))
    masks = [run.result[0].argmax(0) for run in (ours, whole)]
    masks[1] = get_largest_connected_component_mask(masks[1])
    volume_ratio = ours.result[0, 0].numel() / ours.result[inside][0, 0].numel()
    return {
        **as_row("cascade", ours, whole),
        "volume ratio": volume_ratio,
        "share of it": whole.seconds / ours.seconds / volume_ratio,
        "dice": dice(masks[0], masks[1]),
    }


class _MarkedNet(CascadeNet):
    """A network of random weights whose logits are a small part of those of a threshold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map windows (B, 1, H, W, D) to logits (B, 2, H, W, D)."""
        return super().forward(x) + torch.cat([-20 * x, 20 * x], dim=1)

    def locate(self, x: torch.Tensor) -> torch.Tensor:
        """Map resized volumes (B, 1, H, W, D) to logits (B, 2, H, W, D)."""
        return super().locate(x) + torch.cat([-20 * x, 20 * x], dim=1)


def _marked_network(depth: int, region: Sequence[int]) -> CascadeNet:
    make_coarse = partial(Med3DNet, {"liver": 2}, depth)
    return _MarkedNet(make_coarse, depth=depth, num_classes=2, roi_size=region, scaled=True).eval()


def _ellipsoid_scan(size: Sequence[int], spacing_mm: Sequence[float]) -> MetaTensor:
    """Make noise around -0.5 with an ellipsoid around 0.5 in it, which fills the box of a liver: 210 x 170 x 160 mm."""
    place = np.array([0.35, 0.5, 0.6])
    axes = [
        (torch.arange(n) - share * n) * mm / half
        for n, share, mm, half in zip(size, place, spacing_mm, (105, 85, 80), strict=True)
    ]
    squares = [axis.square() for axis in axes]
    inside = (squares[0][:, None, None] + squares[1][:, None] + squares[2] < 1).float()
    affine = torch.diag(torch.tensor([*spacing_mm, 1.0], dtype=torch.float64))
    return MetaTensor((inside - 0.5 + 0.05 * torch.randn(inside.shape))[None, None], affine=affine)
