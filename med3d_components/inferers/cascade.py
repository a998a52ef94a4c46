"""Two-stage segmentation: a coarse look at the whole scan finds the organ, a fine one segments the region around it.

The liver segmentation of Chen, Ma, Zheng 2019 (section on LiTS, figure 5). The paper gives neither the size of the
coarse volume nor the margin around the region.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms.utils import generate_spatial_bounding_box, get_largest_connected_component_mask
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from med3d_components.inferers.windows import BACKGROUND_LOGIT, trim_region, volume_name, widen_to_window
from med3d_components.transforms.body import Box
from med3d_components.utils.checks import check_finite, three_positive

__all__ = ["CascadeInferer"]

logger = logging.getLogger(__name__)

VOXELS = "whole numbers of voxels"


class CascadeInferer(Inferer):
    """Find an organ in the whole scan with a coarse network, then segment it with a fine one in its region.

    For each volume of the batch:

    1. The volume, resized to ``coarse_size`` (trilinear, without smoothing), goes through ``network.locate``. The
       largest connected component of the voxels where foreground is likelier than background is the organ.
    2. Its bounding box in the scan, widened by ``margin_mm`` on all sides and clipped to the scan, is the region. Where
       that saves a window, the margin is up to a quarter less.
    3. ``network`` slides over the region in windows, blended with Gaussian weights. Windows reach out of a region
       that is smaller than they are, as far as the scan goes.
    4. Of the foreground, all classes together, the largest connected component stays.

    Outside the region, and in components that are dropped, the logit of background is ``BACKGROUND_LOGIT`` and that of
    the other classes its negative. A scan without an organ is background throughout, and a warning says so.

    Args:
        region: window of the fine network, in voxels per axis, as in its training.
        coarse_size: voxels per axis that the whole scan is resized to for the coarse network.
        margin_mm: added on each side of the organ's bounding box, in mm: one number, or one per axis of the volume.
        overlap: of neighbouring windows, as a share of the window.
        sw_batch_size: windows per forward pass of the fine network.
        spacing: of plain tensors, in mm per axis; a MetaTensor's affine tells its own.

    Attributes:
        regions: of the last call, one per volume: ((start, stop), (start, stop), (start, stop)) in voxels of the scan,
            stop exclusive, or None where no organ was found.

    Raises:
        ValueError: for a size, margin or spacing that does not exist; when called with inputs that are not of
            shape (B, C, H, W, D), a network without ``locate``, or a volume whose spacing is unknown.

    Example:
        >>> class Threshold(torch.nn.Module):
        ...     def forward(self, x):
        ...         return torch.cat([0.5 - x, x - 0.5], dim=1)
        ...     locate = forward
        >>> scan = torch.zeros(1, 1, 40, 40, 20)
        >>> scan[..., 10:20, 10:20, 8:12] = 1
        >>> inferer = CascadeInferer((16, 16, 16), coarse_size=(20, 20, 20), margin_mm=4, spacing=(1, 1, 2))
        >>> inferer(scan, Threshold()).shape
        torch.Size([1, 2, 40, 40, 20])
        >>> inferer.regions
        [((7, 23), (7, 23), (6, 14))]
    """

    def __init__(
        self,
        region: Sequence[int],
        coarse_size: Sequence[int],
        margin_mm: float | Sequence[float] = 20.0,
        overlap: float = 0.25,
        sw_batch_size: int = 4,
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.window = [int(n) for n in three_positive("region", region, VOXELS, whole=True)]
        self.coarse_size = [int(n) for n in three_positive("coarse_size", coarse_size, VOXELS, whole=True)]
        self.margin_mm = np.asarray(margin_mm, dtype=float)
        if self.margin_mm.shape not in ((), (3,)) or not np.all(np.isfinite(self.margin_mm) & (self.margin_mm >= 0)):
            raise ValueError(f"margin_mm is {margin_mm!r}, but must be one number of mm or three, 0 or more.")
        self.overlap = overlap
        self.spacing = None if spacing is None else three_positive("spacing", spacing)
        self.sliding = SlidingWindowInferer(self.window, sw_batch_size, overlap, mode="gaussian")
        self.regions: list[Box | None] = []

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segment each volume of a batch; no gradients are kept.

        Args:
            inputs: volumes of shape (B, C_in, H, W, D) at the spacing of the fine network.
            network: called for the fine logits (N, C, h, w, d) of windows (N, C_in, h, w, d); its ``locate`` returns
                the coarse logits (1, C', h', w', d') of a volume of ``coarse_size``, background first.
            *args: further arguments of the fine network.
            **kwargs: further arguments of the fine network.

        Returns:
            Logits of shape (B, C, H, W, D) in float32; a MetaTensor with the inputs' meta data if they are one.
        """
        network = _with_locate(network)
        if inputs.ndim != 5:
            raise ValueError(f"The inputs have shape {tuple(inputs.shape)}, but must be of shape (B, C, H, W, D).")
        volumes = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        self.regions, pieces = [], []
        for index, volume in enumerate(volumes.split(1)):
            name = volume_name(inputs, index)
            region = self._find(volume, network, self.spacing_of(inputs, index), name)
            self.regions.append(region)
            if region is not None:
                pieces.append(self._segment(volume, region, name, network, *args, **kwargs))
        # Only an output of the fine network tells its number of classes.
        some = pieces[0] if pieces else network(volumes.new_zeros(1, volumes.shape[1], *self.window), *args, **kwargs)
        logits = self._paste(pieces, volumes, some.shape[1])
        return MetaTensor(logits).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else logits

    def spacing_of(self, inputs: torch.Tensor, index: int) -> tuple[float, ...]:
        """Return the spacing of one volume of the batch in mm."""
        if isinstance(inputs, MetaTensor):
            affine = inputs.affine if inputs.affine.ndim == 2 else inputs.affine[index]
            spacing = affine_to_spacing(affine, suppress_zeros=False).tolist()
            return three_positive(f"{volume_name(inputs, index)}: the affine's spacing", spacing)
        if self.spacing is None:
            raise ValueError(
                f"The inputs are a {type(inputs).__name__} without an affine, so a margin in mm means nothing; "
                "give the inferer their spacing, or make them a monai.data.MetaTensor."
            )
        return self.spacing

    def _find(self, volume: torch.Tensor, network: Any, spacing: Sequence[float], name: str) -> Box | None:
        """Return the region of the organ in a volume (1, C, H, W, D), or None."""
        coarse = F.interpolate(volume, size=self.coarse_size, mode="trilinear", align_corners=False)
        organ = get_largest_connected_component_mask(_foreground(network.locate(coarse), name))
        if not organ.any():
            logger.warning("%s: the coarse stage found no organ, so all of the volume is background.", name)
            return None
        size = np.array(volume.shape[2:])
        # Coarse voxel i covers [i, i + 1) * scale of the scan.
        box = np.array(generate_spatial_bounding_box(organ[None])) * size / organ.shape
        margin = self.margin_mm / np.array(spacing)
        # Rounded first: the noise of an affine in float32 must not add a voxel.
        edges = np.clip(box + np.outer([-1, 1], margin), 0, size).round(4)
        starts, stops = np.floor(edges[0]).astype(int), np.ceil(edges[1]).astype(int)
        if np.any(starts == 0) or np.any(stops == size):
            logger.info("%s: the region touches the border of the scan, which may cut the organ off.", name)
        region = tuple(zip(starts.tolist(), stops.tolist(), strict=True))
        # Of what lies around the organ, a quarter of the margin is not worth a window.
        slack = (np.abs(edges - box) / 4).astype(int).T.tolist()
        return tuple(
            trim_region(*region[axis], self.window[axis], self.overlap, tuple(slack[axis])) for axis in range(3)
        )

    def _segment(
        self, volume: torch.Tensor, region: Box, name: str, network: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the fine logits (1, C, h, w, d) of a region, all components but the largest dropped."""
        reach = tuple(
            widen_to_window(*edges, length, window)
            for edges, length, window in zip(region, volume.shape[2:], self.window, strict=True)
        )
        logits = self.sliding(volume[_slices(reach)], network, *args, **kwargs).float()
        inside = tuple((start - a, stop - a) for (start, stop), (a, _) in zip(region, reach, strict=True))
        logits = logits[_slices(inside)]
        foreground = _foreground(logits, name)
        if not foreground.any():
            logger.warning("%s: the fine stage found no organ in the region %s.", name, region)
        dropped = foreground & ~get_largest_connected_component_mask(foreground)
        logits[0, 0].masked_fill_(dropped, BACKGROUND_LOGIT)
        logits[0, 1:].masked_fill_(dropped, -BACKGROUND_LOGIT)
        return logits

    def _paste(self, pieces: Sequence[torch.Tensor], volumes: torch.Tensor, classes: int) -> torch.Tensor:
        """Return the logits (B, C, H, W, D) of whole scans, given those of the regions that were found."""
        shape = (len(volumes), classes, *volumes.shape[2:])
        logits = torch.full(shape, -BACKGROUND_LOGIT, dtype=torch.float32, device=volumes.device)
        logits[:, 0] = BACKGROUND_LOGIT
        found = [(index, region) for index, region in enumerate(self.regions) if region is not None]
        for (index, region), piece in zip(found, pieces, strict=True):
            logits[index : index + 1][_slices(region)] = piece
        return logits


def _foreground(logits: torch.Tensor, name: str) -> torch.Tensor:
    """Tell where in (1, C, H, W, D) some class is likelier than background; of two, where its softmax is over 0.5."""
    check_finite(f"What the network gives for {name}", logits)
    return logits[0, 1:].amax(0) > logits[0, 0]


def _slices(box: Box) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(start, stop) for start, stop in box))


def _with_locate(network: Any) -> Any:
    """Return the network itself, which is inside of DistributedDataParallel.

    There, each window would wait for the other processes, whose scans have other numbers of windows.
    """
    network = network.module if isinstance(network, DistributedDataParallel) else network
    if not hasattr(network, "locate"):
        raise ValueError(f"The network is a {type(network).__name__} without `locate`; give a CascadeNet.")
    return network
