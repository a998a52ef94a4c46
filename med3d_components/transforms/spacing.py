"""The spacing of volumes: resampling to the median of their domain, and one for those that give none.

Chen, Ma, Zheng 2019 (figure 3) give the new size of a volume as ``size / spacing * median``, which is upside down: it
would turn 100 voxels of 2 mm into 50 voxels of 1 mm. What it means, and what stands here, is
``size * spacing / median``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing, zoom_affine
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.utils import scale_affine
from monai.utils import TraceKeys, ensure_tuple_rep
from torch.nn import functional as F

from med3d_components.data.geometry import is_spacing
from med3d_components.transforms.per_domain import each_domain, of_domain
from med3d_components.utils.checks import three_positive

__all__ = [
    "MAX_VOXELS",
    "EnsureSpacingd",
    "MedianSpacing",
    "MedianSpacingd",
    "is_label_key",
    "spacing_of",
    "with_affine",
]

logger = logging.getLogger(__name__)

MAX_VOXELS = 2**30
"""Most voxels, of all channels, that a volume is resampled to: 4 GiB as float32, 1024 x 1024 x 1024."""
# One trilinear call is faster than one linear call per axis. Plain "nearest" of torch takes the first corner of a voxel
# for its place, up to half a voxel off; "nearest-exact" takes its centre.
TORCH_MODES = {"bilinear": "trilinear", "nearest": "nearest-exact"}


class MedianSpacing(InvertibleTransform):
    """Resample a volume to a spacing along its own axes.

    The field of view keeps its outer borders, so the spacing reached is ``spacing * size / new size`` with
    ``new size = round(size * spacing / target)``, at least 1; the output's affine holds it, together with the shift
    of the first voxel's centre. Axes keep their directions: run it after ``Orientationd``, an oblique volume stays
    oblique. MONAI's ``Spacing`` reaches the target exactly and the borders nearly, through a sampling grid; here the
    borders are exact and one call of ``interpolate`` does the work. Neither smooths before down-sampling.

    Args:
        spacing: target in mm, one number per axis.
        mode: "bilinear" (trilinear in 3D; the result is float32) or "nearest" (the result keeps its dtype).

    Raises:
        ValueError: for a spacing or mode that does not exist, or a volume that cannot be resampled: not of shape
            (C, H, W, D), without an affine, with an affine of zero or undefined spacing, or one that would get more
            than ``MAX_VOXELS`` voxels.

    Example:
        >>> volume = MetaTensor(torch.zeros(1, 10, 10, 4), affine=torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0])))
        >>> MedianSpacing((2.0, 2.0, 2.0))(volume).shape
        torch.Size([1, 5, 5, 10])
    """

    def __init__(self, spacing: Sequence[float], mode: str = "bilinear") -> None:
        self.spacing = three_positive("spacing", spacing)
        self.mode = _check_mode(mode)

    def __call__(
        self,
        img: MetaTensor,
        spacing: Sequence[float] | None = None,
        mode: str | None = None,
        reference: MetaTensor | None = None,
    ) -> MetaTensor:
        """Resample ``img``.

        Args:
            img: volume of shape (C, H, W, D) with its affine.
            spacing: in place of the transform's own.
            mode: in place of the transform's own.
            reference: the volume whose spacing decides the new size; ``img`` by default.

        Returns:
            Volume of shape (C, H', W', D') with the affine of its new grid; ``img`` itself is left alone.
        """
        target = self.spacing if spacing is None else three_positive("spacing", spacing)
        old_spacing = spacing_of(img if reference is None else reference)
        size = tuple(
            max(1, round(n * old / new)) for n, old, new in zip(img.shape[1:], old_spacing, target, strict=True)
        )
        return self._resize(img, size, self.mode if mode is None else _check_mode(mode))

    def inverse(self, img: MetaTensor) -> MetaTensor:
        """Resample ``img`` back to the size and affine it had."""
        applied = self.pop_transform(img)
        size = tuple(int(n) for n in applied[TraceKeys.ORIG_SIZE])
        with self.trace_transform(False):
            return self._resize(img, size, applied[TraceKeys.EXTRA_INFO]["mode"])

    def _resize(self, img: MetaTensor, size: tuple[int, ...], mode: str) -> MetaTensor:
        old_size = tuple(img.shape[1:])
        if img.shape[0] * math.prod(size) > MAX_VOXELS:
            old, new = (" x ".join(map(str, sizes)) for sizes in (old_size, size))
            name = img.meta.get("filename_or_obj", "A volume without file name")
            raise ValueError(
                f"{name} would grow from {old} to {new} voxels of {img.shape[0]} channels, more than {MAX_VOXELS} in "
                f"all, since its spacing is {_text(spacing_of(img))} mm; check that, or crop the scan."
            )
        out = MetaTensor(_interpolate(img.as_tensor(), size, mode)).copy_meta_from(img)
        # "mode" is the entry that Invertd(nearest_interp=True) rewrites.
        return self.push_transform(
            out, affine=scale_affine(old_size, size), orig_size=old_size, extra_info={"mode": mode}
        )


class MedianSpacingd(MapTransform, InvertibleTransform):
    """Resample the volumes of a sample to the median spacing of its domain.

    The dictionary version of :class:`MedianSpacing`. It leaves all other keys alone, whereas ``Spacingd`` of MONAI
    1.6 raises an error on keys such as ``image_path``, which MONAI Label adds. Volumes of one shape and nearly one
    spacing, as an image and its label are, get one size.

    Args:
        keys: of the volumes.
        spacing: target in mm: one triple for all samples, or domain name to triple.
        mode: "bilinear" or "nearest", for all keys or one per key. By default keys with "label" or "mask" in their
            name take nearest, all others bilinear.
        domain_key: the key of the sample's domain name, for a mapping; not needed if it has one entry.
        allow_missing_keys: skip the keys that a sample lacks.

    Raises:
        ValueError: as :class:`MedianSpacing`; also for a mapping without entries, or a sample whose domain is unknown.

    Example:
        >>> to_median = MedianSpacingd(
        ...     ["image", "label"], {"Task04_Hippocampus": [1, 1, 1], "Task09_Spleen": [0.79, 0.79, 5]}
        ... )
        >>> volume = MetaTensor(torch.zeros(1, 10, 10, 4), affine=torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0])))
        >>> sample = {"image": volume, "label": volume, "domain": "Task04_Hippocampus"}
        >>> to_median(sample)["label"].shape
        torch.Size([1, 10, 10, 20])
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float] | Mapping[str, Sequence[float]],
        mode: str | Sequence[str | None] | None = None,
        domain_key: str = "domain",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        modes = ensure_tuple_rep(mode, len(self.keys))
        self.mode = [
            _default_mode(key) if m is None else _check_mode(m) for key, m in zip(self.keys, modes, strict=True)
        ]
        if isinstance(spacing, Mapping) and not spacing:
            raise ValueError("spacing is an empty mapping, but needs a domain's name with its spacing in mm.")
        self.spacing = each_domain(spacing, partial(three_positive, "spacing"))
        self.domain_key = domain_key
        # One array transform for all domains and keys: Invertd hands its inverse a volume without its domain.
        self.resampler = MedianSpacing((1.0, 1.0, 1.0))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes resampled."""
        d = dict(data)
        spacing = of_domain(self.spacing, d, self.domain_key)
        first: MetaTensor | None = None
        for key, mode in self.key_iterator(d, self.mode):
            # The first volume decides for its likes: affines equal up to rounding must not give two sizes.
            if first is None or not _same_grid(d[key], first):
                first = d[key]
            d[key] = self.resampler(d[key], spacing, mode, reference=first)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes resampled back."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resampler.inverse(d[key])
        return d


class EnsureSpacingd(MapTransform):
    """Give volumes without a valid spacing the one of the training set, with a warning that names the file.

    "Some volumes do not give spacing", says the paper of LiTS, and takes the mean of the training set. A volume gives
    none if its affine has a column that is zero, infinite or NaN, or if ``FastLoadImaged(need_spacing=False)`` has made
    1 mm of such a voxel size in its NIfTI file. A header that says 1 mm without meaning it
    cannot be told from one that does, nor can a volume without a file whose affine is the identity. The meta data of a
    volume whose spacing was assumed say so: "spacing_assumed".

    Run it after ``FastLoadImaged`` and ``EnsureChannelFirstd``, before all that uses the spacing: ``Orientationd``,
    which raises an error on zero and NaN, and :class:`MedianSpacingd`. Axes keep the directions that they have, if any.

    Args:
        keys: of the volumes, MetaTensors.
        spacing: in mm, along the volume's own axes.

    Raises:
        ValueError: for a spacing that is not three positive numbers.

    Example:
        >>> volume = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.zeros(4, 4))
        >>> EnsureSpacingd("image", (0.8, 0.8, 1.5))({"image": volume})["image"].pixdim.tolist()
        [0.8, 0.8, 1.5]
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float]) -> None:
        super().__init__(keys)
        self.spacing = three_positive("spacing", spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with volumes that all have a spacing."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            path = str(volume.meta.get("filename_or_obj", f"{key} (no file)"))
            known = is_spacing(affine_to_spacing(volume.affine, suppress_zeros=False))
            if not known or volume.meta.get("spacing_assumed"):
                logger.warning("%s does not give its spacing; it is taken to be %s mm.", path, _text(self.spacing))
                affine = np.asarray(volume.affine) if known else np.eye(4)
                result[key] = with_affine(volume.as_tensor(), volume, zoom_affine(affine, self.spacing, False))
                result[key].meta["spacing_assumed"] = True
        return result


def is_label_key(key: Hashable) -> bool:
    """Tell whether a key names a volume of labels: it has "label" or "mask" in it."""
    return any(word in str(key).lower() for word in ("label", "mask"))


def _text(spacing: Sequence[float]) -> str:
    return " x ".join(f"{length:g}" for length in spacing)


def _default_mode(key: Hashable) -> str:
    return "nearest" if is_label_key(key) else "bilinear"


def _check_mode(mode: str) -> str:
    if mode not in TORCH_MODES:
        raise ValueError(f"mode is {mode!r}, but must be one of {', '.join(TORCH_MODES)}.")
    return str(mode)


def spacing_of(img: MetaTensor) -> tuple[float, ...]:
    """Return the spacing of a volume in mm, after checking that it has one."""
    if not isinstance(img, MetaTensor):
        raise ValueError(
            f"The volume is a {type(img).__name__} without an affine, so its spacing is unknown; "
            "load it with LoadImaged or make it a monai.data.MetaTensor."
        )
    if img.ndim != 4:
        raise ValueError(f"The volume has shape {tuple(img.shape)}, not (C, H, W, D); run EnsureChannelFirstd before.")
    spacing = affine_to_spacing(img.affine, suppress_zeros=False)
    if not torch.all(torch.isfinite(spacing) & (spacing > 0)):
        raise ValueError(
            f"The affine of {img.meta.get('filename_or_obj', 'a volume without file name')} gives the spacing "
            f"{spacing.tolist()} mm, but it must be positive; write the right spacing into the file's header."
        )
    return tuple(spacing.tolist())


def with_affine(values: torch.Tensor, source: MetaTensor, affine: np.ndarray) -> MetaTensor:
    """Return values with the meta data of a volume, but another affine."""
    volume = MetaTensor(values).copy_meta_from(source)
    volume.affine = torch.as_tensor(affine, dtype=torch.float64)
    return volume


def _same_grid(img: MetaTensor, other: MetaTensor) -> bool:
    spacings = spacing_of(img), spacing_of(other)
    return img.shape[1:] == other.shape[1:] and bool(np.allclose(*spacings, rtol=1e-3))


def _interpolate(volume: torch.Tensor, size: tuple[int, ...], mode: str) -> torch.Tensor:
    """Resample (C, H, W, D) to (C, *size), the outer borders of the field of view kept."""
    dtype = torch.float32 if mode == "bilinear" else volume.dtype
    if volume.shape[1:] == size:
        return volume.to(dtype)
    if mode == "nearest" and not (dtype.is_floating_point or dtype == torch.uint8):
        volume = volume.double()  # other integers have no kernel; float64 holds them exactly up to 2**53
    elif mode == "bilinear":
        volume = volume.float()
    # Axes go in by their order in memory: copying an array whose axes were permuted takes longer than resampling it.
    order = sorted(range(3), key=lambda axis: -volume.stride(1 + axis))
    batch = volume.permute(0, *(1 + axis for axis in order))[None]
    resampled = F.interpolate(batch, size=[size[axis] for axis in order], mode=TORCH_MODES[mode])[0]
    return resampled.permute(0, *(1 + order.index(axis) for axis in range(3))).to(dtype)
