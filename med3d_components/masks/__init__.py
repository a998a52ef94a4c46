"""Masks as files: NIfTI, segmentations of 3D Slicer, DICOM SEG and RTSTRUCT, with names and colours of the classes."""

from med3d_components.masks.classes import class_color, file_part, mask_classes
from med3d_components.masks.nifti import write_nifti
from med3d_components.masks.writing import FORMATS, all_or_none, check_formats, write_mask

__all__ = [
    "FORMATS",
    "all_or_none",
    "check_formats",
    "class_color",
    "file_part",
    "mask_classes",
    "write_mask",
    "write_nifti",
]
