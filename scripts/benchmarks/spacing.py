"""Resampling along the axes, against MONAI's Spacingd."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd
from monai.utils import set_determinism

from med3d_components.transforms import MedianSpacingd
from scripts.benchmarks.stopwatch import compare, report

__all__ = ["spacing"]


def spacing(
    size: Sequence[int] = (512, 512, 105),
    source: Sequence[float] = (0.8, 0.8, 2.5),
    target: Sequence[float] = (1.5, 1.5, 1.5),
    repeats: int = 3,
    out: str | None = None,
) -> None:
    """Compare MedianSpacingd with MONAI's Spacingd on a synthetic volume.

    MedianSpacingd computes in single precision, Spacingd by default in double, so one more row asks Spacingd for
    single precision. The column ``centre_shift_voxels`` is the greatest distance along an axis between the physical
    centres of one object after either resampling, in voxels of the target.

    Args:
        size: of the volume, in voxels.
        source: its spacing in mm.
        target: spacing to reach, in mm.
        repeats: timed runs of each; the median is reported.
        out: folder for spacing.csv and spacing.json; nothing is written without it.
    """
    set_determinism(0)
    blob = _blob(size, source)
    label = _like(blob, (blob > 0.01).as_tensor().float())
    ct = _like(blob, 1000 * (blob.as_tensor() - 1) + 20 * torch.randn(blob.shape))
    cases: list[tuple[str, MetaTensor, MetaTensor, str, Any]] = [
        ("image, bilinear", ct, blob, "bilinear", np.float64),
        ("image, bilinear, float32", ct, blob, "bilinear", np.float32),
        ("label, nearest", label, label, "nearest", np.float64),
    ]
    rows = []
    for name, volume, shape, mode, dtype in cases:
        ours = MedianSpacingd("volume", target, mode=mode)
        theirs = Spacingd("volume", target, mode=mode, dtype=dtype)
        sample: dict[Hashable, Any] = {"volume": volume}
        row = compare(name, partial(ours, sample), partial(theirs, sample), repeats)
        our_centre, their_centre = (_centre(resample({"volume": shape})["volume"]) for resample in (ours, theirs))
        shift = our_centre - their_centre
        row["centre_shift_voxels"] = float((shift / torch.tensor(target)).abs().max())
        rows.append(row)
    settings = {"size": list(size), "source_mm": list(source), "target_mm": list(target), "repeats": repeats}
    report("spacing", rows, settings, out)


def _blob(size: Sequence[int], spacing_mm: Sequence[float]) -> MetaTensor:
    """Make a Gaussian of value 1 at its centre, off the volume's own centre, with its affine."""
    axes = [torch.linspace(0, 1, n) for n in size]
    parts = [torch.exp(-(((axis - 0.45) / 0.12) ** 2)) for axis in axes]
    affine = torch.diag(torch.tensor([*spacing_mm, 1.0], dtype=torch.float64))
    return MetaTensor(torch.einsum("i,j,k->ijk", *parts)[None], affine=affine)


def _like(volume: MetaTensor, values: torch.Tensor) -> MetaTensor:
    return MetaTensor(values, affine=volume.affine)


def _centre(volume: MetaTensor) -> torch.Tensor:
    """Return the centre of mass of a volume (1, H, W, D) in mm."""
    weights = volume.as_tensor()[0].double()
    index = [
        (weights.sum(dim=[other for other in range(3) if other != axis]) * torch.arange(weights.shape[axis])).sum()
        for axis in range(3)
    ]
    centre: torch.Tensor = volume.affine @ torch.stack([*index, weights.sum()]) / weights.sum()
    return centre[:3]
