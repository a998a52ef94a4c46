"""The random changes of nnU-Net, by MONAI's transforms."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data.utils import affine_to_spacing
from monai.transforms import (
    Affined,
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    Randomizable,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
)
from scipy.spatial.transform import Rotation

__all__ = ["ModernAugmentationd", "RandRotateScaled"]


class RandRotateScaled(Randomizable, MapTransform):
    """Rotate and scale a volume at random about its centre, in mm, whatever the spacing, with one resampling.

    MONAI's ``RandAffined`` turns the grid of voxels, which shears a scan of thick slices, and draws both at once.

    Args:
        keys: image and label, (C, H, W, D), in this order; the label's classes are taken from the nearest voxel.
        prob: of a rotation, and again of a scaling.
        degrees: the most that each of three angles may be, either way.
        scale: smallest and largest factor.

    Example:
        >>> import torch
        >>> turn = RandRotateScaled(["image", "label"], prob=1).set_random_state(0)
        >>> turn({"image": torch.rand(1, 9, 8, 7), "label": torch.ones(1, 9, 8, 7)})["label"].unique()
        metatensor([1.])
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.2,
        degrees: float = 30,
        scale: tuple[float, float] = (0.7, 1.4),
    ) -> None:
        MapTransform.__init__(self, keys)
        self.prob, self.degrees, self.scale = prob, degrees, scale
        self.matrix = np.eye(3)

    def randomize(self, data: Any = None) -> None:
        """Draw the matrix that maps mm of the result to mm of the volume."""
        self.matrix = np.eye(3)
        if self.R.random() < self.prob:
            angles = self.R.uniform(-self.degrees, self.degrees, 3)
            self.matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        if self.R.random() < self.prob:
            # Enlarging and shrinking are equally likely.
            low, high = self.scale
            bounds = (low, 1) if self.R.random() < 0.5 else (1, high)
            self.matrix = self.matrix / self.R.uniform(*bounds)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample, turned and scaled or not."""
        self.randomize()
        if np.array_equal(self.matrix, np.eye(3)):
            return dict(data)
        first = data[self.keys[0]]
        spacing = affine_to_spacing(first.affine).numpy() if hasattr(first, "affine") else np.ones(3)
        affine = np.eye(4)
        affine[:3, :3] = self.matrix * spacing / spacing[:, None]
        modes = ["bilinear", *["nearest"] * (len(self.keys) - 1)]
        result: dict[Hashable, Any] = Affined(self.keys, affine=affine, mode=modes, padding_mode="border")(data)
        return result


class ModernAugmentationd(Compose):
    """Rotation, scaling, noise, blur, brightness, contrast, low resolution and gamma, as nnU-Net v2 draws them.

    Probabilities and ranges are those of its ``nnUNetTrainer``. Angles are drawn in mm, see :class:`RandRotateScaled`;
    beyond the volume its border goes on, where nnU-Net cuts a smaller patch out of a larger one. Mirroring is a
    transform of its own, :class:`RandFlipLeftRightd`.

    Args:
        keys: image and label.
        image_key: whose intensities change, (C, H, W, D), after normalisation.

    Example:
        >>> import torch
        >>> augment = ModernAugmentationd(["image", "label"]).set_random_state(0)
        >>> augment({"image": torch.rand(1, 16, 16, 16), "label": torch.ones(1, 16, 16, 16)})["image"].shape
        torch.Size([1, 16, 16, 16])
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        gamma = {"gamma": (0.7, 1.5), "retain_stats": True}
        super().__init__(
            [
                RandRotateScaled(keys),
                RandGaussianNoised(image_key, prob=0.1, std=math.sqrt(0.1)),
                RandGaussianSmoothd(image_key, (0.5, 1), (0.5, 1), (0.5, 1), prob=0.2),
                RandScaleIntensityd(image_key, factors=0.25, prob=0.15),
                RandScaleIntensityFixedMeand(image_key, factors=0.25, preserve_range=True, prob=0.15),
                RandSimulateLowResolutiond(image_key, prob=0.25, zoom_range=(0.5, 1)),
                RandAdjustContrastd(image_key, prob=0.1, invert_image=True, **gamma),
                RandAdjustContrastd(image_key, prob=0.3, **gamma),
            ]
        )
