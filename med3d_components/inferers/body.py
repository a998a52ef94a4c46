"""Windows over the body alone, not over the air around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms.utils import generate_spatial_bounding_box
from skimage.filters import threshold_otsu
from torch.nn import functional as F

from med3d_components.inferers.cascade import BACKGROUND_LOGIT, Box
from med3d_components.inferers.sliding_window import widen_to_window
from med3d_components.utils import as_flag

__all__ = ["BodyWindowInferer", "find_body"]

BLOCK = 4
"""Voxels along the side of the cubes whose means tell body from air; in a mean of 64, noise is an eighth."""

AIR_SHARE = 0.1
"""Of the way from a scan's darkest cube to its Otsu threshold; what is darker is air. In CT that is below lungs."""


class BodyWindowInferer(SlidingWindowInferer):
    """Slide a window over the body's bounding box, and call the rest of the scan background.

    Windows are blended with Gaussian weights, as of MONAI's ``SlidingWindowInferer(mode="gaussian")``. Where the box,
    see :func:`find_body`, is smaller than a window, the window reaches out of it as far as the scan goes.

    Outside the box the logit of background is ``BACKGROUND_LOGIT`` and that of the other classes its negative.

    Args:
        roi_size: window in voxels per axis, as in the training.
        sw_batch_size: windows per forward pass.
        overlap: of neighbouring windows, as a share of the window.
        skip_air: slide over the box alone, or the whole scan; true or false, also as text.

    Example:
        >>> scan = torch.zeros(1, 1, 40, 40, 40)
        >>> scan[..., 8:20, 8:20, 8:20] = 1
        >>> inferer = BodyWindowInferer((16, 16, 16))
        >>> inferer(scan, lambda x: torch.cat([0.5 - x, x - 0.5], dim=1)).argmax(1).sum() == 12**3
        tensor(True)
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        sw_batch_size: int = 1,
        overlap: float = 0.25,
        skip_air: bool | str = True,
    ) -> None:
        super().__init__(roi_size, sw_batch_size, overlap, mode="gaussian")
        self.skip_air = as_flag("skip_air", skip_air)

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Map volumes (B, C_in, H, W, D) to logits (B, C, H, W, D); further arguments go to the network."""
        size = list(inputs.shape[2:])
        box = find_body(inputs) if self.skip_air else tuple((0, n) for n in size)
        reach = [
            widen_to_window(*edges, n, window, self.overlap)
            for edges, n, window in zip(box, size, self.roi_size, strict=True)
        ]
        inside = (slice(None), slice(None), *(slice(*edges) for edges in reach))
        volumes = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        logits = super().__call__(volumes[inside], network, *args, **kwargs)
        if list(logits.shape[2:]) != size:
            whole = logits.new_full((*logits.shape[:2], *size), -BACKGROUND_LOGIT)
            whole[:, 0] = BACKGROUND_LOGIT
            whole[inside] = logits
            logits = whole
        return MetaTensor(logits).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else logits


def find_body(inputs: torch.Tensor) -> Box:
    """Return the bounding box of all that is not air or empty background, with a cube's side around it.

    A cube of 4x4x4 voxels is body if its mean is above the scan's darkest cube by a tenth of the way to the Otsu
    threshold between dark and bright cubes: above about -950 HU in a CT, which lungs are, and above a twentieth of the
    bright tissue in an MR, whatever its normalisation. Everything that bright counts, such as a table. So a side is cut
    off only where a whole slab is as dark as air; in a scan without air, where it is as dark as the darkest tissue.

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
    size = inputs.shape[2:]
    sides = [min(BLOCK, n) for n in size]
    means = F.avg_pool3d(torch.as_tensor(inputs).float(), sides).flatten(0, 1).cpu()
    body = torch.stack([_is_body(volume) for volume in means]).any(0)
    if not body.any():
        return tuple((0, n) for n in size)
    starts, stops = generate_spatial_bounding_box(body[None], margin=1, allow_smaller=True)
    # What is left over behind the last cube belongs to it.
    return tuple(
        (start * side, n if stop == cubes else stop * side)
        for start, stop, side, cubes, n in zip(starts, stops, sides, body.shape, size, strict=True)
    )


def _is_body(means: torch.Tensor) -> torch.Tensor:
    darkest = float(means.min())
    return means > darkest + AIR_SHARE * (float(threshold_otsu(means.numpy().ravel())) - darkest)
