"""Transforms: cubes, spacing, domain-dependent cropping and checks, organ regions, the MedicalNet demo's own."""

from med3d_components.transforms.cube import LoadImageCubed
from med3d_components.transforms.domain import CheckImaged, CheckLabeld, RandDomainCropd, SelectChanneld
from med3d_components.transforms.medicalnet import MedicalNetDemoPreprocessd
from med3d_components.transforms.region import EnsureSpacingd, RandRegionOfInterestd
from med3d_components.transforms.spacing import MedianSpacing, MedianSpacingd

__all__ = [
    "CheckImaged",
    "CheckLabeld",
    "EnsureSpacingd",
    "LoadImageCubed",
    "MedianSpacing",
    "MedianSpacingd",
    "MedicalNetDemoPreprocessd",
    "RandDomainCropd",
    "RandRegionOfInterestd",
    "SelectChanneld",
]
