"""Transforms: cubes, median spacing, domain-dependent cropping and checks, the MedicalNet demo's preprocessing."""

from med3d_components.transforms.cube import LoadImageCubed
from med3d_components.transforms.domain import CheckImaged, CheckLabeld, RandDomainCropd, SelectChanneld
from med3d_components.transforms.medicalnet import MedicalNetDemoPreprocessd
from med3d_components.transforms.spacing import MedianSpacing, MedianSpacingd

__all__ = [
    "CheckImaged",
    "CheckLabeld",
    "LoadImageCubed",
    "MedianSpacing",
    "MedianSpacingd",
    "MedicalNetDemoPreprocessd",
    "RandDomainCropd",
    "SelectChanneld",
]
