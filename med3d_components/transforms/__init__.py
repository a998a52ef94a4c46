"""Transforms: reading, cubes, spacing, domain-dependent cropping and checks, organ regions, the MedicalNet demo's own.

And those of Models Genesis: cubes of lung, and the distortions that it restores them from.
"""

from med3d_components.transforms.cube import LoadImageCubed
from med3d_components.transforms.distortion import RandBezierIntensityd, RandFlipsd
from med3d_components.transforms.domain import CheckImaged, CheckLabeld, RandDomainCropd, SelectChanneld
from med3d_components.transforms.fast import FastClipIntensityPercentilesd, FastLoadImaged
from med3d_components.transforms.intensity import ClipIntensityd, KeepLargestComponentsd, ZScored
from med3d_components.transforms.inversion import InvertToLabelsd
from med3d_components.transforms.paint import RandPaintd
from med3d_components.transforms.region import EnsureSpacingd, RandRegionOfInterestd
from med3d_components.transforms.shuffle import RandPixelShuffled
from med3d_components.transforms.spacing import MedianSpacing, MedianSpacingd
from med3d_components.transforms.tissue import RandTissueCropd

__all__ = [
    "CheckImaged",
    "CheckLabeld",
    "ClipIntensityd",
    "EnsureSpacingd",
    "FastClipIntensityPercentilesd",
    "FastLoadImaged",
    "InvertToLabelsd",
    "KeepLargestComponentsd",
    "LoadImageCubed",
    "MedianSpacing",
    "MedianSpacingd",
    "RandBezierIntensityd",
    "RandDomainCropd",
    "RandFlipsd",
    "RandPaintd",
    "RandPixelShuffled",
    "RandRegionOfInterestd",
    "RandTissueCropd",
    "SelectChanneld",
    "ZScored",
]
