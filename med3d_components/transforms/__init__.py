"""Transforms: reading, cubes, spacing, domain-dependent cropping and checks, organ regions, the MedicalNet demo's own.

And those of Models Genesis: cubes of lung, and the distortions that it restores them from.
"""

from med3d_components.transforms.checks import CheckImaged, CheckLabeld, RandDomainCropd, SelectChanneld
from med3d_components.transforms.crop import RandTissueCropd
from med3d_components.transforms.cube import LoadImageCubed
from med3d_components.transforms.distortion import RandBezierIntensityd, RandFlipsd
from med3d_components.transforms.inversion import InvertToLabelsd
from med3d_components.transforms.paint import RandPaintd
from med3d_components.transforms.reading import FastClipIntensityPercentilesd, FastLoadImaged
from med3d_components.transforms.region import EnsureSpacingd, RandRegionOfInterestd
from med3d_components.transforms.shuffle import RandPixelShuffled
from med3d_components.transforms.spacing import MedianSpacing, MedianSpacingd

__all__ = [
    "CheckImaged",
    "CheckLabeld",
    "EnsureSpacingd",
    "FastClipIntensityPercentilesd",
    "FastLoadImaged",
    "InvertToLabelsd",
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
]
