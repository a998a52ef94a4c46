"""Where the volumes of a folder are, what their headers say, and their voxels, all or a box of them.

nibabel reads NIfTI, ITK reads NRRD, MetaImage and folders with a DICOM series, see ``dicom.py``.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import itk
import nibabel as nib
import numpy as np
from monai.transforms import LoadImage
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from med3d_components.data.dicom import is_dicom_folder, read_series

__all__ = [
    "Header",
    "Scan",
    "case_name",
    "file_gives_spacing",
    "is_nifti",
    "is_spacing",
    "list_images",
    "list_volumes",
    "open_scan",
    "read_header",
    "read_volume",
]

NIFTI = (".nii", ".nii.gz")
ENDINGS = (*NIFTI, ".nrrd", ".mha", ".mhd")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def list_volumes(path: str | os.PathLike[str]) -> list[Path]:
    """List the volumes that a path stands for, sorted by name.

    A file is one volume, a folder of DICOM files is one volume, and any other folder holds several of both.

    Raises:
        FileNotFoundError: if there is no such file or folder, or no volume in it.

    Example:
        >>> list_volumes("imagesTs")
        [PosixPath('imagesTs/patient_1'), PosixPath('imagesTs/patient_2.nii.gz')]
    """
    path = Path(path)
    inside = sorted(path.iterdir()) if path.is_dir() and not is_dicom_folder(path) else [path]
    volumes = [entry for entry in inside if not entry.name.startswith(".") and _is_volume(entry)]
    if not volumes:
        raise FileNotFoundError(
            f"{path} holds no volume; give a {', '.join(ENDINGS)} file, the folder of a DICOM series, "
            "or a folder of these."
        )
    return volumes


def list_images(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """List volumes as items ``{"image": path}`` for inference, after a look at the headers of DICOM series.

    Raises:
        FileNotFoundError: if there is no volume.
        ValueError: for a DICOM folder that is no single complete series, or two volumes of one name.

    Example:
        >>> list_images("imagesTs/patient_2.nii.gz")
        [{'image': 'imagesTs/patient_2.nii.gz', 'case': 'patient_2'}]
    """
    volumes = list_volumes(path)
    names: dict[str, Path] = {}
    for volume in volumes:
        if (twin := names.setdefault(case_name(volume), volume)) != volume:
            raise ValueError(
                f"{twin} and {volume} have one name, so that one result would overwrite the other; rename one."
            )
        if volume.is_dir():
            read_series(volume)
    return [{"image": str(volume), "case": case_name(volume)} for volume in volumes]


def case_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a volume without the ending of its format.

    Example:
        >>> case_name("imagesTr/patient.7.nii.gz")
        'patient.7'
    """
    name = Path(path).name
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


class Header(NamedTuple):
    """Size and spacing of a volume along the axes that it has after orientation to RAS.

    Attributes:
        size: voxels along left-right, posterior-anterior and inferior-superior.
        spacing: mm along the same axes; NaN if the file gives none.
        channels: entries of the fourth axis, 1 for a 3-D volume.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int


def read_header(path: str | os.PathLike[str], need_spacing: bool = True) -> Header:
    """Read the header of a NIfTI file and check what it promises.

    Args:
        path: of the file.
        need_spacing: whether a file without a valid spacing is an error.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no NIfTI file, is cut off, is not a 3-D volume (with or without channels), or has
            no valid spacing.

    Example:
        >>> read_header("ct.nii.gz")
        Header(size=(64, 64, 64), spacing=(1.0, 1.0, 1.0), channels=1)
    """
    image, affine = _open_nifti(Path(path), need_spacing)
    spacing = np.full(3, np.nan) if affine is None else np.linalg.norm(affine[:3, :3], axis=0)
    order = np.argsort(nib.orientations.io_orientation(np.eye(4) if affine is None else affine)[:, 0])
    return Header(
        size=tuple(int(image.shape[axis]) for axis in order),  # type: ignore[arg-type]
        spacing=tuple(float(spacing[axis]) for axis in order),  # type: ignore[arg-type]
        channels=image.shape[3] if len(image.shape) == 4 else 1,
    )


def file_gives_spacing(path: str | os.PathLike[str]) -> bool:
    """Tell whether the voxel size in a NIfTI file is one; true for files of other kinds, whose affine tells.

    Readers take a voxel size of 0 for 1 mm, in silence.
    """
    return not (is_nifti(path) and Path(path).is_file()) or is_spacing(_pixdim(path))


def is_spacing(values: Any) -> bool:
    """Tell whether values are lengths in mm, of any sign: finite and not 0."""
    values = np.asarray(values, dtype=float)
    return bool(np.all(np.isfinite(values) & (values != 0)))


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file's name is one of a NIfTI file."""
    return str(path).lower().endswith(NIFTI)


@dataclass(frozen=True)
class Scan:
    """A volume on disk, of which only the header has been read.

    Attributes:
        path: its file, or its folder of DICOM slices.
        shape: voxels along the axes of the file.
        affine: (4, 4), from voxel to world, RAS in mm.
        read_box: reads a box of voxels, as an array.
    """

    path: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    read_box: Callable[[Sequence[slice]], np.ndarray]

    def read(self, lower: Sequence[int] = (0, 0, 0), upper: Sequence[int] | None = None) -> np.ndarray:
        """Return the voxels from ``lower`` up to but without ``upper``, as float32; all of them if none are given."""
        x, y, z = (slice(int(a), int(b)) for a, b in zip(lower, self.shape if upper is None else upper, strict=True))
        return np.asarray(self.read_box((x, y, z)), dtype=np.float32)

    def check_inside(self, center_mm: Sequence[float]) -> None:
        """Refuse a point, in world mm, that lies outside the scan.

        Raises:
            ValueError: naming the scan, the point and the scan's extent.
        """
        voxel = (np.linalg.inv(self.affine) @ [*center_mm, 1.0])[:3]
        if (voxel < -0.5).any() or (voxel > np.subtract(self.shape, 0.5)).any():
            corners = np.stack(np.meshgrid(*[(-0.5, length - 0.5) for length in self.shape]), axis=-1).reshape(-1, 3)
            world = apply_affine(self.affine, corners)
            extent = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in zip(world.min(axis=0), world.max(axis=0), strict=True))
            raise ValueError(
                f"{self.path}: center_mm {[round(float(value), 1) for value in center_mm]} lies outside the scan, "
                f"{extent} mm (RAS); mind that x and y of DICOM and ITK have the opposite sign."
            )


def open_scan(path: str | os.PathLike[str], spacing: Sequence[float] | None = None) -> Scan:
    """Read the header of a NIfTI, NRRD or MetaImage file, or of a folder with a DICOM series.

    Headers are kept, so several nodules of a scan cost one.

    Args:
        path: the file or folder.
        spacing: in mm along the axes of the file, where its header has none.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it is no readable volume of three dimensions and one channel.

    Example:
        >>> scan = open_scan("ct.nii.gz")
        >>> scan.read((10, 10, 10), (58, 58, 58)).shape
        (48, 48, 48)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; add it, or drop its entry from the list.")
    scan = _open(path, path.stat().st_mtime_ns)
    if spacing is None:
        return scan
    affine = scan.affine.copy()
    affine[:3, :3] *= np.asarray(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    return replace(scan, affine=affine)


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of any format, or a folder with a DICOM series.

    Returns:
        The volume in a type that NIfTI has, and its voxel to RAS mm matrix.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it cannot be read, see :func:`read_series` for a folder.
    """
    if path.is_dir():
        series = read_series(path)
        array = _read_slices(series.files)  # MONAI's ITKReader would stack the files as channels
        whole = np.clip(array, -32768, 32767).astype(np.int16)
        return whole if np.array_equal(whole, array) else array, series.affine
    try:
        volume = LoadImage(reader="NibabelReader" if is_nifti(path) else "ITKReader", dtype=None)(path)
    except Exception as error:  # the readers raise whatever their file format's library does
        reason = str(error).strip().splitlines()[-1:]
        raise ValueError(f"{path} cannot be read ({' '.join(reason)}); copy it anew.") from error
    array = volume.numpy()
    small = array.dtype in (np.uint8, np.int16, np.uint16)
    return array if small else array.astype(np.float32), volume.affine.numpy()


def _is_volume(path: Path) -> bool:
    return is_dicom_folder(path) if path.is_dir() else path.is_file() and path.name.lower().endswith(ENDINGS)


def _open_nifti(path: Path, need_spacing: bool = True) -> tuple[Any, np.ndarray | None]:
    """Return the image of a NIfTI file after a check of its header, and its affine, None if it gives no spacing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        image = nib.load(path)
        shape, affine = image.shape, np.asarray(image.affine, dtype=float)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error) as e:
        raise ValueError(f"{path} is not a readable NIfTI file ({e}); replace or convert it.") from e
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} has shape {shape}, but must be a 3-D volume, or 4-D with channels last.")
    if path.suffix.lower() == ".gz" and not _is_complete(path, image):
        raise ValueError(f"{path} is cut off: it holds fewer bytes than its header announces; copy it anew.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if np.isfinite(affine).all() and is_spacing(lengths) and file_gives_spacing(path):
        return image, affine
    if need_spacing:
        text = " x ".join(f"{value:g}" for value in _pixdim(path))
        raise ValueError(f"{path} has no valid spacing ({text} mm); repair its header.")
    return image, None


def _pixdim(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the voxel size without the check that turns 0 into 1."""
    header_class = nib.load(path).header_class
    with ImageOpener(path) as file:
        return np.asarray(header_class.from_fileobj(file, check=False)["pixdim"][1:4], dtype=float)


def _is_complete(path: Path, image: Any) -> bool:
    """Compare the length that a gzip file records at its end with the one its NIfTI header announces."""
    header = image.header
    expected = int(header.get_data_offset() + np.prod(image.shape, dtype=np.int64) * header.get_data_dtype().itemsize)
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        recorded = struct.unpack("<I", file.read(4))[0]
    if recorded >= expected % 2**32 and recorded - expected % 2**32 < 1024:  # some writers pad the end
        return True
    try:  # files of several gzip members record the last one's length alone, so only reading tells
        with gzip.open(path) as file:
            return sum(len(block) for block in iter(lambda: file.read(1 << 20), b"")) >= expected
    except (OSError, EOFError, zlib.error):
        return False


@lru_cache(maxsize=1024)
def _open(path: Path, modified: int) -> Scan:
    """Read a header, once as long as the file stays the same."""
    shape: Sequence[int]
    affine: np.ndarray | None
    if path.is_dir():
        if not is_dicom_folder(path):
            raise ValueError(f"{path} is a folder without a DICOM series; name a volume or a folder of DICOM slices.")
        series = read_series(path)
        shape, affine, read_box = series.shape, series.affine, partial(_read_dicom, series.files)
    elif is_nifti(path):
        image, affine = _open_nifti(path)
        shape, read_box = image.shape[:3], partial(_read_nifti, image)
        if image.shape[3:] > (1,):
            raise ValueError(f"{path} is 4-D, of shape {image.shape}, but a scan must have one channel; split it.")
    else:
        shape, affine = _itk_header(path)
        read_box = partial(_read_itk, path)
    x, y, z = (int(length) for length in shape)
    return Scan(str(path), (x, y, z), np.asarray(affine, dtype=float), read_box)


def _read_nifti(image: Any, box: Sequence[slice]) -> np.ndarray:
    return np.asarray(image.dataobj[tuple(box)]).reshape([axis.stop - axis.start for axis in box])


def _read_dicom(files: Sequence[Path], box: Sequence[slice]) -> np.ndarray:
    return _read_slices(files[box[2]])[tuple(box[:2])]


def _read_slices(files: Sequence[Path]) -> np.ndarray:
    """Read neighbours of a series, in Hounsfield units if it is a CT."""
    return np.asarray(itk.array_from_image(itk.imread([str(file) for file in files], itk.F)).T)


def _itk_reader(path: Path) -> Any:
    reader = itk.ImageFileReader[itk.Image[itk.F, 3]].New(FileName=str(path))
    try:
        reader.UpdateOutputInformation()
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[-1]
        raise ValueError(f"{path} is not a readable volume ({reason}); replace or convert it.") from e
    return reader


def _itk_header(path: Path) -> tuple[Sequence[int], np.ndarray]:
    """Return shape and affine of a file that ITK reads."""
    reader = _itk_reader(path)
    file, volume = reader.GetImageIO(), reader.GetOutput()
    if file.GetNumberOfDimensions() != 3 or file.GetNumberOfComponents() != 1:
        raise ValueError(
            f"{path} has {file.GetNumberOfDimensions()} dimensions and {file.GetNumberOfComponents()} channels, "
            "but a scan must have three and one; split it."
        )
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(volume.GetDirection()) * np.asarray(volume.GetSpacing())
    affine[:3, 3] = volume.GetOrigin()
    return tuple(volume.GetLargestPossibleRegion().GetSize()), LPS_TO_RAS @ affine


def _read_itk(path: Path, box: Sequence[slice]) -> np.ndarray:
    """Read a box; of a MetaImage that is not compressed, ITK reads no more than that from disk."""
    region = itk.ImageRegion[3]()
    region.SetIndex([axis.start for axis in box])
    region.SetSize([axis.stop - axis.start for axis in box])
    reader = _itk_reader(path)  # named, since its output outlives it without voxels
    part = itk.region_of_interest_image_filter(reader.GetOutput(), region_of_interest=region)
    return itk.array_from_image(part).T
