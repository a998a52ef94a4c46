"""Transforms: reading, checks, channel, percentiles, spacing, crops, organ regions, cubes around nodules, inversion.

And those of Models Genesis: cubes of lung, and the distortions that it restores them from.
"""

from med3d_components.transforms.augmentation import ModernAugmentationd, RandRotateScaled
from med3d_components.transforms.channel import SelectChanneld
from med3d_components.transforms.checks import CheckHounsfieldd, CheckImaged
from med3d_components.transforms.confidence import Confidenced
from med3d_components.transforms.crop import RandForegroundCropd
from med3d_components.transforms.cube import LoadImageCubed
from med3d_components.transforms.distortion import RandBezierIntensityd, RandFlipsd
from med3d_components.transforms.flip import RandFlipLeftRightd
from med3d_components.transforms.intensity import ClipIntensityd, KeepLargestComponentsd, ZScored
from med3d_components.transforms.inversion import InvertToLabelsd
from med3d_components.transforms.paint import RandPaintd
from med3d_components.transforms.percentiles import FastClipIntensityPercentilesd
from med3d_components.transforms.reading import FastLoadImaged, LoadLabeld
from med3d_components.transforms.region import RandRegionOfInterestd
from med3d_components.transforms.saving import SaveImageMasksd, SaveImageVolumesd
from med3d_components.transforms.shuffle import RandPixelShuffled
from med3d_components.transforms.spacing import EnsureSpacingd, MedianSpacing, MedianSpacingd
from med3d_components.transforms.tissue import RandTissueCropd

__all__ = [
    "CheckHounsfieldd",
    "CheckImaged",
    "ClipIntensityd",
    "Confidenced",
    "EnsureSpacingd",
    "FastClipIntensityPercentilesd",
    "FastLoadImaged",
    "InvertToLabelsd",
    "KeepLargestComponentsd",
    "LoadImageCubed",
    "LoadLabeld",
    "MedianSpacing",
    "MedianSpacingd",
    "ModernAugmentationd",
    "RandBezierIntensityd",
    "RandFlipLeftRightd",
    "RandFlipsd",
    "RandForegroundCropd",
    "RandPaintd",
    "RandPixelShuffled",
    "RandRegionOfInterestd",
    "RandRotateScaled",
    "RandTissueCropd",
    "SaveImageMasksd",
    "SaveImageVolumesd",
    "SelectChanneld",
    "ZScored",
]
