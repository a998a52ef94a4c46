"""Windows over a scan: over the body only, of the size that a domain was trained with, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.inferers.utils import _get_scan_interval
from monai.utils import ImageMetaKey

from med3d_components.transforms.body import find_body
from med3d_components.utils import as_flag

__all__ = [
    "BACKGROUND_LOGIT",
    "BodyWindowInferer",
    "DomainSlidingWindowInferer",
    "trim_region",
    "volume_name",
    "widen_to_window",
    "windows_per_pass",
]

BACKGROUND_LOGIT = 10.0
"""Where a network has no say, background gets this logit and every other class its negative.

Softmax gives a foreground class 2e-9, and resampling such probabilities cannot turn them over.
"""


class BodyWindowInferer(SlidingWindowInferer):
    """Slide a window over the body's bounding box, and call the rest of the scan background.

    Windows are blended with Gaussian weights, as of MONAI's ``SlidingWindowInferer(mode="gaussian")``. Where the box,
    see ``transforms.body.find_body``, is smaller than a window, the window reaches out of it as far as the scan goes.

    Outside the box the logit of background is ``BACKGROUND_LOGIT`` and that of the other classes its negative.

    Args:
        roi_size: window in voxels per axis, as in the training.
        sw_batch_size: windows per forward pass.
        overlap: of neighbouring windows, as a share of the window.
        skip_air: slide over the box only, or over the whole scan; true or false, also as text.

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
        reach = [widen_to_window(*edges, n, window) for edges, n, window in zip(box, size, self.roi_size, strict=True)]
        inside = (slice(None), slice(None), *(slice(*edges) for edges in reach))
        volumes = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        logits = super().__call__(volumes[inside], network, *args, **kwargs)
        if list(logits.shape[2:]) != size:
            whole = logits.new_full((*logits.shape[:2], *size), -BACKGROUND_LOGIT)
            whole[:, 0] = BACKGROUND_LOGIT
            whole[inside] = logits
            logits = whole
        return MetaTensor(logits).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else logits


class DomainSlidingWindowInferer(Inferer):
    """Slide a window of the size that the network was trained with in a domain, see :class:`BodyWindowInferer`.

    Args:
        region: domain name to window in voxels.
        overlap: of neighbouring windows, as a share of the window.
        sw_batch_size: windows per forward pass.

    Example:
        >>> inferer = DomainSlidingWindowInferer({"liver": (16, 16, 16)})
        >>> inferer(torch.ones(1, 1, 24, 24, 9), lambda x, domain: x, domain="liver").shape
        torch.Size([1, 1, 24, 24, 9])
    """

    def __init__(self, region: Mapping[str, Sequence[int]], overlap: float = 0.25, sw_batch_size: int = 4) -> None:
        super().__init__()
        self.inferers = {
            name: BodyWindowInferer(size, sw_batch_size=sw_batch_size, overlap=overlap) for name, size in region.items()
        }

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, domain: str, **kwargs: Any) -> torch.Tensor:
        """Segment ``inputs`` (B, C, H, W, D), all of one domain, which the network is given too."""
        return self.inferers[domain](inputs, network, *args, domain=domain, **kwargs)


def windows_per_pass(device: torch.device | str) -> int:
    """Return how many windows to give a network at once: 1 on a CPU, where several take as long one by one, else 4.

    Args:
        device: of the inference, or its name.

    Example:
        >>> windows_per_pass("cpu")
        1
    """
    return 1 if torch.device(device).type == "cpu" else 4


def volume_name(inputs: torch.Tensor, index: int) -> str:
    """Return the file of one volume of a batch, or its place where that is unknown.

    Example:
        >>> volume_name(torch.ones(2, 1, 4, 4, 4), 1)
        'Volume 2 of the batch'
    """
    names = inputs.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(inputs, MetaTensor) else None
    name = names[index] if isinstance(names, (list, tuple)) else names
    return str(name) if name else f"Volume {index + 1} of the batch"


def widen_to_window(start: int, stop: int, length: int, window: int) -> tuple[int, int]:
    """Widen a region that is smaller than a window to one, as far as the scan goes, along one axis.

    A window then sees the tissue around the region, where MONAI would pad with zeros.

    Args:
        start: first voxel of the region.
        stop: the voxel behind its last one.
        length: of the scan, in voxels.
        window: its length in voxels.

    Returns:
        First voxel, and the voxel behind the last one, of the part of the scan to slide over.

    Example:
        >>> widen_to_window(7, 9, length=30, window=8)
        (4, 12)
    """
    first = max(min(start - (window - (stop - start)) // 2, start, length - window), 0)
    return first, min(max(stop, first + window), length)


def trim_region(start: int, stop: int, window: int, overlap: float, slack: tuple[int, int]) -> tuple[int, int]:
    """Give up a few voxels at the ends of a region where that saves a window, along one axis.

    Two windows of 128 voxels would look at a region of 134 nearly twice. Windows of another size than in training are
    no way out: networks do worse in them.

    Args:
        start: first voxel of the region.
        stop: the voxel behind its last one.
        window: its length in voxels.
        overlap: of neighbouring windows, as a share of the window.
        slack: most voxels that can be given up at the start and at the stop.

    Returns:
        First voxel of the region, and the voxel behind its last one.

    Example:
        >>> trim_region(40, 174, window=128, overlap=0.25, slack=(4, 4))
        (43, 171)
    """
    (interval,) = _get_scan_interval([stop - start], [window], 1, [overlap])
    surplus = max(stop - start - window, 0) % max(interval, 1)
    if surplus > sum(slack):
        return start, stop
    low = min(max(surplus // 2, surplus - slack[1]), slack[0])
    return start + low, stop - (surplus - low)
