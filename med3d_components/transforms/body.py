"""Where the body is in a scan, on a grid of blocks of 4x4x4 voxels: its bounding box, and the air around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms.utils import generate_spatial_bounding_box
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from torch.nn import functional as F

__all__ = ["Box", "box_of_blocks", "find_air", "find_body", "share_of_blocks"]

Box = tuple[tuple[int, int], ...]
"""First voxel of each axis, and the voxel behind the last one."""
Blocks = NDArray[np.bool_]
"""(h, w, d), a value per block; what is left over behind the last block of an axis belongs to it."""

BLOCK = 4
"""Voxels along the side of the blocks whose means tell body from air; in a mean of 64, noise is an eighth."""
AIR_SHARE = 0.1
"""Of the way from a scan's darkest block to its Otsu threshold; what is darker is air. In CT that is below lungs."""
IN_SLICE = ndimage.generate_binary_structure(3, 1) & [False, True, False]
"""Blocks are neighbours in an axial slice only: between slices the windpipe joins the lungs with the air outside."""


def find_body(inputs: torch.Tensor) -> Box:
    """Return the bounding box of all that is not air or empty background, with a block's side around it.

    A block is body if its mean is above the scan's darkest block by a tenth of the way to the Otsu threshold between
    dark and bright blocks: above about -950 HU in a CT, which lungs are, and above a twentieth of the bright tissue in
    an MR, whatever its normalisation. Everything that bright counts, such as a table. So a side is cut off only where a
    whole slab is as dark as air; in a scan without air, where it is as dark as the darkest tissue.

    Args:
        inputs: volumes of shape (B, C, H, W, D); the box is around the bodies of all of them.

    Returns:
        First voxel, and the voxel behind the last one, of each axis; the whole scan if all of it is equal.

    Example:
        >>> scan = torch.zeros(1, 1, 40, 40, 40)
        >>> scan[..., 8:20, 8:20, 30:] = 1
        >>> find_body(scan)
        ((4, 24), (4, 24), (24, 40))
    """
    return box_of_blocks(~_is_air(inputs.flatten(0, 1)), inputs.shape[2:])


def find_air(scan: torch.Tensor, air: float | None = None) -> Blocks:
    """Return which blocks are air around the body: in their axial slice, joined with a side of the scan by air.

    Lungs and bowel gas are inside the body, and lungs at a side of a cropped scan are brighter than air.

    Args:
        scan: (C, H, W, D), the last axis from slice to slice.
        air: mean below which a block is air; None as in :func:`find_body`.

    Example:
        >>> scan = torch.full((1, 40, 40, 8), -1000.0)
        >>> scan[:, 8:32, 8:32] = 40
        >>> scan[:, 16:24, 16:24] = -1000  # gas
        >>> bool(find_air(scan, -950)[0, 0, 0]), bool(find_air(scan, -950)[5, 5, 0])
        (True, False)
    """
    parts, count = ndimage.label(_is_air(scan, air), IN_SLICE)
    outside = np.zeros(count + 1, bool)
    for side in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        outside[side] = True
    outside[0] = False
    return outside[parts]


def box_of_blocks(blocks: Blocks, size: Sequence[int]) -> Box:
    """Return the bounding box of blocks in voxels, with a block's side around it; all of the scan, where there is none.

    Args:
        blocks: (h, w, d).
        size: of the scan in voxels.

    Example:
        >>> box_of_blocks(np.array([[[False, False, True]]]), (4, 4, 14))
        ((0, 4), (0, 4), (4, 14))
    """
    if not blocks.any():
        return tuple((0, n) for n in size)
    starts, stops = generate_spatial_bounding_box(torch.as_tensor(blocks)[None], margin=1, allow_smaller=True)
    return tuple(
        (start * _side(n), n if stop == count else stop * _side(n))
        for start, stop, count, n in zip(starts, stops, blocks.shape, size, strict=True)
    )


def share_of_blocks(blocks: Blocks, start: Sequence[int], region: Sequence[int], size: Sequence[int]) -> float:
    """Return which share of a region's voxels lies in some blocks.

    Args:
        blocks: (h, w, d).
        start: first voxel of the region.
        region: its size in voxels.
        size: of the scan in voxels.

    Example:
        >>> share_of_blocks(np.array([[[True, False]]]), (0, 0, 2), (4, 4, 4), (4, 4, 8))
        0.5
    """
    axes = zip(start, region, size, blocks.shape, strict=True)
    index = [np.minimum(np.arange(first, first + side) // _side(n), count - 1) for first, side, n, count in axes]
    share: NDArray[Any] = blocks[tuple(slice(along[0], along[-1] + 1) for along in index)]
    for along in reversed(index):
        share = share @ (np.bincount(along - along[0]) / len(along))
    return float(share)


def _side(length: int) -> int:
    """Return the voxels of a block along an axis."""
    return min(BLOCK, length)


def _is_air(volumes: torch.Tensor, air: float | None = None) -> Blocks:
    """Tell which blocks are air in all of some volumes (N, H, W, D)."""
    sides = [_side(n) for n in volumes.shape[1:]]
    means = F.avg_pool3d(torch.as_tensor(volumes).float()[:, None], sides)[:, 0].cpu().numpy()
    limits = [_darkest(volume) if air is None else air for volume in means]
    return np.all([volume <= limit for volume, limit in zip(means, limits, strict=True)], axis=0)


def _darkest(means: NDArray[np.float32]) -> float:
    """Return up to where a scan is as dark as its air."""
    darkest = float(means.min())
    return darkest + AIR_SHARE * (float(threshold_otsu(means.ravel())) - darkest)
