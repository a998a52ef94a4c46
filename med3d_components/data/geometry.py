"""Where the voxels of a volume lie: what the header of a NIfTI file says of it, and checks for all formats.

A NIfTI header can give the affine in two forms, sform and qform, and a voxel size besides. The rule here is that of
most programs: the sform if its code is set, else the qform if its code is set, else the voxel size alone. MONAI's
reader drops an sform whose columns are not as long as the voxel size to the fifth digit, and takes the qform, whatever
its code (Project-MONAI/MONAILabel#1634); nibabel's image makes 1 mm of a voxel size of 0 and leaves the unit to the
caller. So the bytes of the header are asked.
"""

from __future__ import annotations

import os
import zlib
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

__all__ = [
    "MAX_MM",
    "MIN_MM",
    "NiftiGeometry",
    "check_affine",
    "corner_distance",
    "is_spacing",
    "nifti_geometry",
    "read_nifti_header",
]

MIN_MM, MAX_MM = 0.001, 100.0
"""Least and greatest voxel size that is taken for one."""
UNITS = {1: ("m", 1000.0), 3: ("microns", 0.001)}
"""Name and length in mm of the units of length that xyzt_units can name; it is mm else."""
FORMS_DIFFER = 0.1
"""In voxels: how far apart two forms of a header may put a corner of the volume."""
DEGENERATE = 0.01
"""Least volume that three directions of length 1 must span."""

Affine = NDArray[np.float64]


class NiftiGeometry(NamedTuple):
    """What the header of a NIfTI file says of the place of its voxels.

    Attributes:
        affine: (4, 4), from voxel to RAS mm, whatever unit the file has.
        warnings: lines for the user, each with the file's name.
        has_spacing: whether the file gives a voxel size. Without, the affine has the directions, of length 1.
    """

    affine: Affine
    warnings: tuple[str, ...]
    has_spacing: bool = True


def read_nifti_header(path: str | os.PathLike[str]) -> Any:
    """Return the header of a NIfTI-1 or NIfTI-2 file as it is, without nibabel's repairs.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no NIfTI file of one piece; the message names it.

    Example:
        >>> int(read_nifti_header("ct.nii.gz")["sform_code"])
        2
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        with ImageOpener(path) as file:
            block = file.read(nib.Nifti2Header.sizeof_hdr)
    except (OSError, EOFError, zlib.error) as e:
        raise ValueError(f"{path} is not a readable NIfTI file ({e}); replace or convert it.") from None
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(block):
            header = kind(block[: kind.sizeof_hdr], check=False)
            if header["magic"].item()[:2] == b"n+":
                return header
    reason = "a header of that format is missing at its start"
    raise ValueError(f"{path} is not a readable NIfTI file ({reason}); replace or convert it.")


def nifti_geometry(path: str | os.PathLike[str], need_spacing: bool = True) -> NiftiGeometry:
    """Read the geometry of a NIfTI file from the bytes of its header.

    Args:
        path: of the file.
        need_spacing: whether a file without a voxel size is an error.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no NIfTI file, has no voxel size or none from 1 micron to 100 mm, or no three directions.

    Example:
        >>> nifti_geometry("ct.nii.gz").affine[:3, 3].tolist()
        [-1.0, -52.5, 78.0]
    """
    header = read_nifti_header(path)
    unit, mm = UNITS.get(int(header["xyzt_units"]) % 8, ("mm", 1.0))
    scale = np.diag([mm, mm, mm, 1.0])
    shape = tuple(int(length) for length in header["dim"][1:4])
    affine, name, warnings = _choose(path, header, scale, shape)
    pixdim = np.asarray(header["pixdim"][1:4], dtype=float)
    lengths = voxel_sizes(affine)
    if is_spacing(pixdim) and lengths.all():
        check_affine(path, affine, f"the {name} in its header" + (f", in {unit}" if mm != 1 else ""))
        return NiftiGeometry(affine, warnings)
    if need_spacing:
        text = " x ".join(f"{value:g}" for value in (lengths / mm if is_spacing(pixdim) else pixdim))
        raise ValueError(f"{path} has no valid spacing ({text} {unit}); repair its header.")
    header["pixdim"][1:4] = 1
    return NiftiGeometry(_directions(_choose(path, header, scale, shape)[0]), warnings, has_spacing=False)


def check_affine(path: str | os.PathLike[str], affine: Affine, source: str = "its header") -> None:
    """Refuse an affine that puts no voxels anywhere, for every format alike.

    Args:
        path: for the message.
        affine: (4, 4), from voxel to mm.
        source: what the affine was read from, for the message.

    Raises:
        ValueError: for a voxel size that is none or not from 1 micron to 100 mm, directions that do not span space, or
            an origin that is no number.

    Example:
        >>> check_affine("ct.nii.gz", np.diag([1, 1, 1500, 1]))
        Traceback (most recent call last):
        ...
        ValueError: ct.nii.gz has a voxel size of 1 x 1 x 1500 mm, but 0.001 to 100 mm are allowed; repair its header.
    """
    lengths = voxel_sizes(affine)
    text = " x ".join(f"{value:g}" for value in lengths)
    if not is_spacing(lengths):
        raise ValueError(f"{path} has no valid spacing ({text} mm); repair {source}.")
    if lengths.min() < MIN_MM * (1 - 1e-6) or lengths.max() > MAX_MM * (1 + 1e-6):
        raise ValueError(
            f"{path} has a voxel size of {text} mm, but {MIN_MM:g} to {MAX_MM:g} mm are allowed; repair {source}."
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < DEGENERATE:
        raise ValueError(f"{path} has no three different directions, or no origin; repair {source}.")


def corner_distance(one: Affine, other: Affine, shape: tuple[int, ...]) -> float:
    """Return how far, in mm, two affines put a corner of a volume apart; 0 where it is at most a tenth of a voxel.

    Args:
        one: (4, 4), from voxel to mm.
        other: likewise.
        shape: voxels of the volume.

    Example:
        >>> corner_distance(np.eye(4), np.diag([1.0, 1.0, 1.5, 1.0]), (10, 10, 20))
        9.75
    """
    if np.array_equal(one, other):
        return 0.0
    corners = list(product(*[(-0.5, length - 0.5) for length in shape]))
    here, there = apply_affine(one, corners), apply_affine(other, corners)
    voxels = np.abs(apply_affine(np.linalg.inv(one), there) - corners)
    if (voxels <= FORMS_DIFFER).all():  # false for NaN
        return 0.0
    return float(np.linalg.norm(here - there, axis=1).max())


def is_spacing(values: Any) -> bool:
    """Tell whether values are lengths, of any sign: finite and not 0."""
    values = np.asarray(values, dtype=float)
    return bool(np.all(np.isfinite(values) & (values != 0)))


def _choose(
    path: str | os.PathLike[str], header: Any, scale: Affine, shape: tuple[int, ...]
) -> tuple[Affine, str, tuple[str, ...]]:
    """Return the affine in mm, the name of the form that it is from, and warnings."""
    if header["sform_code"] > 0:
        sform = header.get_sform()
        other, nearest, contradicting = _other_form(header, sform)
        far = corner_distance(scale @ nearest, scale @ other, shape)
        warnings = [f"{path}: the {contradicting} in its header lies up to {far:.3g} mm off its sform, which is taken."]
        return scale @ sform, "sform", tuple(warnings if far > 0 else ())
    if header["qform_code"] > 0:
        return scale @ _qform(header), "qform", ()
    unknown = "its header gives no directions (both codes are 0), so left and right are unknown and may be exchanged."
    return scale @ header.get_base_affine(), "voxel size", (f"{path}: {unknown}",)


def _other_form(header: Any, sform: Affine) -> tuple[Affine, Affine, str]:
    """Return what else a header with an sform says, what it would say if it were made of the sform, and its name."""
    pixdim, lengths = np.abs(np.asarray(header["pixdim"][1:4], dtype=float)), voxel_sizes(sform)
    if not np.isfinite(sform).all() or np.linalg.det(sform[:3, :3]) == 0 or not is_spacing(pixdim):
        return sform, sform, ""
    if header["qform_code"] > 0:
        made = nib.Nifti1Header()
        made.set_qform(sform)  # leaves out the shears, which a quaternion cannot hold
        return _qform(header), made.get_qform(), "qform"
    scaled = sform.copy()
    scaled[:3, :3] *= pixdim / lengths
    return scaled, sform, "voxel size"


def _qform(header: Any) -> Affine:
    """Return the affine of the quaternion, of NaN if that is no rotation."""
    usable = header.copy()  # nibabel refuses a sign that the standard lets pass
    usable["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    usable["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    try:
        return np.asarray(usable.get_qform(), dtype=float)
    except (ValueError, HeaderDataError):
        return np.full((4, 4), np.nan)


def _directions(affine: Affine) -> Affine:
    """Return the affine with columns of length 1, the identity where it has none."""
    lengths = voxel_sizes(affine)
    if not np.isfinite(affine).all() or not is_spacing(lengths):
        return np.eye(4)
    unit = affine.copy()
    unit[:3, :3] /= lengths
    return unit
