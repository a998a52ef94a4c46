"""Which scans a path stands for, what their headers say, and their voxels, all or a box of them.

Everything that looks at a scan goes through :func:`open_scan`, so that inference, training, import and nodules have one
opinion of its shape and place. nibabel reads the voxels of NIfTI, ITK those of NRRD and MetaImage, and ``dicom.py``
DICOM series.
"""

from __future__ import annotations

import csv
import glob
import gzip
import logging
import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import itk
import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from med3d_components.data.channels import channel_items, split_channel, stack_channels
from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.dicom import find_series, is_dicom_folder, read_series
from med3d_components.data.dicom_files import is_dicom_file
from med3d_components.data.geometry import check_affine, nifti_geometry, read_nifti_header

__all__ = [
    "ENDINGS",
    "Header",
    "Listing",
    "Scan",
    "case_name",
    "channel_files",
    "is_nifti",
    "itk_affine",
    "list_images",
    "list_scans",
    "open_scan",
    "read_header",
    "read_volume",
    "scan_files",
]

logger = logging.getLogger(__name__)

NIFTI = (".nii", ".nii.gz")
ENDINGS = (*NIFTI, ".nrrd", ".mha", ".mhd")
MASK_SUFFIXES = ("_seg", "_label", "_mask", "-label", "_segmentation", "-segmentation", "_labels", ".seg")
"""Ends of the names of masks that lie beside their scans."""
SEGMENTATION = ".seg.nrrd"
"""Ending of a 3D Slicer segmentation, which is no scan wherever it lies."""
LABELS = ("labelsTr", "labelsTs")
"""Folders of labels in the layout of the Medical Segmentation Decathlon."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
GZIP = 31
"""What zlib calls 32 KiB of window below gzip's header and checksum."""
ITK_TYPES = {"unsigned_char": itk.UC, "char": itk.SS, "short": itk.SS, "unsigned_short": itk.US, "float": itk.F}
"""Types of voxels that ITK's Python package can hold, by those in files; all others are read as double."""
LISTED = 5
"""How many entries a line names."""

Reader = Callable[[Sequence[slice]], NDArray[Any]]
Place: TypeAlias = str | os.PathLike[str]
"""A file, a folder of one DICOM series, or ``FOLDER::NAME`` of one series among several."""


class Listing(NamedTuple):
    """What a path holds.

    Attributes:
        scans: name to path; the path of a DICOM series may be ``FOLDER::NAME``.
        failures: path of what should be a scan but is none, to the reason.
        notes: lines on what was left out.
    """

    scans: dict[str, str]
    failures: dict[str, str]
    notes: list[str]


def list_scans(path: str | os.PathLike[str], masks: bool = False, resample: bool = False) -> Listing:
    """List the scans that a path stands for, a file, a DICOM series, or a folder of these at any depth.

    The name of a file is its path below the folder without the ending, such as ``patient_1/ct``, and that of a DICOM
    series its SeriesInstanceUID; they depend on nothing else that the folder holds. Links are followed, each folder is
    visited once. Left out, and noted, are other files, dangling links, the masks that lie beside a scan as
    ``NAME_seg``, all ``.seg.nrrd`` files, the folders of labels of a Medical Segmentation Decathlon task, and the
    results of an earlier inference that its ``scans.csv`` names. Scans that share a name are failures, all of them.

    Args:
        path: of the file, series or folder.
        masks: whether to list masks as well, for a folder of labels.
        resample: of DICOM series, see :func:`open_scan`.

    Raises:
        FileNotFoundError: if there is no such file or folder, or no scan in it.

    Example:
        >>> list(list_scans("LUNA16").scans)[:2]
        ['scan_0', 'scan_1']
    """
    root, found = Path(path), _Found()
    named: dict[str, str] = {}
    passed_over: list[str] = []
    if root.is_dir():
        _walk(root, found, masks)
        places = _name_files(root, found, masks)
        series, failures, passed_over = find_series(root, resample)
        found.failures.update(failures)
        for one in series:
            places[one.name].append(one.path)
        for name, twins in places.items():
            if len(twins) > 1:
                reason = f"{' and '.join(twins)} have one name, {name}, so that one result would overwrite the other; "
                found.failures.update(dict.fromkeys(twins, f"{reason}rename one, or move it away."))
        named = {name: twins[0] for name, twins in places.items() if len(twins) == 1}
    elif _is_volume(root) and not masks and _is_segmentation(root):
        found.left_out[MASK].append(root.name)
    elif _is_volume(root):
        named = {case_name(root): str(root)}
    elif not root.exists() and "::" in str(path):
        named = {open_scan(path, resample=resample).name: str(path)}
    notes = found.notes() + passed_over
    if not named and not found.failures:
        text = "".join(f" ({note.rstrip('.')})" for note in notes)
        raise FileNotFoundError(
            f"{path} holds no volume{text}; give a {', '.join(ENDINGS)} file, the folder of a DICOM series, "
            "or a folder of these."
        )
    return Listing(dict(sorted(named.items(), key=lambda pair: pair[1])), found.failures, notes)


def list_images(path: str | os.PathLike[str], resample: bool = False, in_channels: int = 1) -> list[dict[str, Any]]:
    """List scans as items ``{"image": path, "case": name}`` for inference, see :func:`list_scans`.

    What is left out is logged. What should be a scan but is none is an item too, with the reason under "error" and a
    name of its own: its path below the folder, the folder's name if it is that itself, or the UID of its series.

    Args:
        path: of the file, series or folder.
        resample: of DICOM series, see :func:`open_scan`.
        in_channels: of a scan. With several, the files ``CASE_0000``, ``CASE_0001`` and so on are one scan, for which
            any of them stands, and whose item has a list of paths.

    Raises:
        FileNotFoundError: if there is no scan.
        ValueError: if there are but scans of one name.

    Example:
        >>> list_images("imagesTs/patient_2.nii.gz")
        [{'image': 'imagesTs/patient_2.nii.gz', 'case': 'patient_2'}]
    """
    scans, failures, notes = list_scans(path, resample=resample)
    for note in notes:
        logger.warning("%s", note)
    if not scans and len(failures) > len(reasons := set(failures.values())) == 1:
        raise ValueError(*reasons)
    if in_channels > 1 and Path(path).is_file():
        scans |= {case_name(file): str(file) for file in channel_files(path)}
    whole = {name for name, place in scans.items() if in_channels == 1 or _has_channels(place, resample)}
    items = channel_items(scans, whole, in_channels)
    for place, reason in failures.items():
        if "::" in place and not os.path.lexists(place):
            below = place.rpartition("::")[2]
        else:
            below = Path(place).relative_to(path).as_posix()
        name = Path(os.path.abspath(path)).name if below == "." else below
        names = chain([name, f"{name}_dicom"], (f"{name}_dicom_{number}" for number in count(2)))
        name = next(name for name in names if name not in items)
        items[name] = {"image": place, "case": name, "error": reason}
    return list(items.values())


def channel_files(path: Place) -> list[Path]:
    """Return the files ``CASE_0000``, ``CASE_0001`` and so on beside a file, of its case and with its ending.

    Args:
        path: ``FOLDER/CASE.nii.gz``, which need not exist, or one of the files.

    Example:
        >>> for channel in range(2):
        ...     Path(f"p_000{channel}.nii.gz").touch()
        >>> [file.name for file in channel_files("p_0001.nii.gz")]
        ['p_0000.nii.gz', 'p_0001.nii.gz']
    """
    name = case_name(path)
    case, ending = split_channel(name)[0], Path(path).name[len(name) :]
    return sorted(Path(path).parent.glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9]{glob.escape(ending)}"))


def _has_channels(path: str, resample: bool = False) -> bool:
    """Tell whether a file holds several channels; what cannot be opened tells so when it is read."""
    try:
        return open_scan(path, need_spacing=False, resample=resample).channels > 1
    except (OSError, ValueError):
        return False


def scan_files(path: Place | Sequence[Place]) -> list[Path]:
    """Return the files that a scan is made of.

    Args:
        path: as :func:`open_scan` takes it.

    Example:
        >>> [file.name for file in scan_files("ct.nii.gz")]
        ['ct.nii.gz']
    """
    return [file for each in _places(path) for file in _files(each)]


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


def read_header(path: Place | Sequence[Place], need_spacing: bool = True) -> Header:
    """Read the header of a volume and check what it promises.

    Args:
        path: as :func:`open_scan` takes it.
        need_spacing: whether a file without a valid spacing is an error.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as :func:`open_scan`.

    Example:
        >>> read_header("ct.nii.gz")
        Header(size=(64, 64, 64), spacing=(1.0, 1.0, 1.0), channels=1)
    """
    scan = open_scan(path, need_spacing=need_spacing)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0) if scan.has_spacing else np.full(3, np.nan)
    order = np.argsort(nib.orientations.io_orientation(scan.affine)[:, 0])
    return Header(
        size=tuple(int(scan.shape[axis]) for axis in order),  # type: ignore[arg-type]
        spacing=tuple(float(spacing[axis]) for axis in order),  # type: ignore[arg-type]
        channels=scan.channels,
    )


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file's name is one of a NIfTI file."""
    return str(path).lower().endswith(NIFTI)


@dataclass(frozen=True)
class Scan:
    """A volume on disk, of which only the header has been read.

    Attributes:
        path: its file, or its folder of DICOM slices, or ``FOLDER::NAME`` of one series among several.
        name: that of the file without its ending, or the UID of the series.
        shape: voxels along the axes of the file.
        channels: numbers per voxel.
        affine: (4, 4), from voxel to world, RAS in mm.
        read_box: reads a box of voxels, as an array of the box's shape.
        read_all: reads all voxels, (x, y, z) or (x, y, z, channels), in a type close to that of the file.
        modality: of a DICOM series, such as CT; empty for other formats.
        has_spacing: whether the file gives a voxel size; without, the affine has columns of length 1.
        parts: the scans of its channels where each has a file of its own; its path is that of the first.
    """

    path: str
    name: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64] = field(compare=False)
    read_box: Reader = field(repr=False, compare=False)
    read_all: Callable[[], NDArray[Any]] = field(repr=False, compare=False)
    channels: int = 1
    modality: str = ""
    has_spacing: bool = True
    parts: tuple[Scan, ...] = ()

    def read(self, lower: Sequence[int] = (0, 0, 0), upper: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return the voxels from ``lower`` up to but without ``upper``, as float32; all of them if none are given.

        Raises:
            ValueError: if there are several channels, or the voxels cannot be read.
        """
        self.check_one_channel()
        x, y, z = (slice(int(a), int(b)) for a, b in zip(lower, self.shape if upper is None else upper, strict=True))
        with _reading(self.path):
            return np.asarray(self.read_box((x, y, z)), dtype=np.float32)

    def voxels(self) -> NDArray[Any]:
        """Return all voxels, of shape (x, y, z) or (x, y, z, channels), in a type close to that of the file.

        Raises:
            ValueError: if the voxels cannot be read.
        """
        if self.parts:
            return np.moveaxis(np.stack([part.voxels() for part in self.parts]), 0, -1)
        with _reading(self.path):
            return self.read_all()

    def check_one_channel(self) -> None:
        """Refuse a scan of several channels.

        Raises:
            ValueError: naming the scan.
        """
        if self.channels > 1:
            raise ValueError(
                f"{self.path} is 4-D, of shape {(*self.shape, self.channels)}, but a scan must have one channel; "
                "split it."
            )

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


def open_scan(
    path: Place | Sequence[Place],
    spacing: Sequence[float] | None = None,
    need_spacing: bool = True,
    resample: bool = False,
) -> Scan:
    """Read the header of a NIfTI, NRRD or MetaImage file, or of a DICOM series.

    Headers are kept, so several nodules of a scan cost one; what is doubtful in one is logged once.

    Args:
        path: the file or folder, or ``FOLDER::NAME`` of one DICOM series among several in a folder; or several of
            these, the channels of one scan.
        spacing: in mm along the axes of the file, where its header has none.
        need_spacing: whether a file without a voxel size is an error; ``has_spacing`` tells if not.
        resample: whether unevenly spaced or tilted DICOM slices become a volume by interpolation; an error if not.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it is no readable volume of three dimensions, with or without channels, or its geometry is none;
            see :func:`nifti_geometry`, :func:`check_affine` and :func:`stack_channels`.

    Example:
        >>> scan = open_scan("ct.nii.gz")
        >>> scan.read((10, 10, 10), (58, 58, 58)).shape
        (48, 48, 48)
    """
    if len(places := _places(path)) > 1:
        return stack_channels([open_scan(each, spacing, need_spacing, resample) for each in places])
    (path,) = places
    place = _on_disk(path)
    if place.is_dir():
        if place == Path(path) and not is_dicom_folder(place):
            raise ValueError(f"{path} is a folder without a DICOM series; name a volume or a folder of DICOM slices.")
        scan = _open_series(str(path), resample)
    else:
        scan = _open(place, place.stat().st_mtime_ns)
    if spacing is None:
        if need_spacing and not scan.has_spacing:
            nifti_geometry(place)  # which knows what to say
        return scan
    affine = scan.affine.copy()
    affine[:3, :3] *= np.asarray(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    return replace(scan, affine=affine, has_spacing=True)


def read_volume(path: Place | Sequence[Place], need_spacing: bool = True) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Read a file of any format, a DICOM series, or several of these as channels.

    Returns:
        The volume in a type that NIfTI has, and its voxel to RAS mm matrix.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it cannot be read, see :func:`open_scan`.
    """
    scan = open_scan(path, need_spacing=need_spacing)
    array = scan.voxels()
    if _on_disk(scan.path).is_dir():
        whole = np.clip(array, -32768, 32767).astype(np.int16)
        return whole if np.array_equal(whole, array) else array, scan.affine
    small = array.dtype in (np.uint8, np.int16, np.uint16)
    return array if small else array.astype(np.float32, copy=False), scan.affine


@dataclass
class _Found:
    """What lies below a folder."""

    files: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def notes(self) -> list[str]:
        """Return a line for each reason to leave something out."""
        lines = []
        for reason, names in self.left_out.items():
            some = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
            one, several = reason.split("|")
            lines.append(
                f"1 entry is {one}: {some}." if len(names) == 1 else f"{len(names)} entries are {several}: {some}."
            )
        return lines


NO_VOLUME = "no volume|no volumes"
DANGLING = "a link to nothing|links to nothing"
SEEN = "a link to a folder that is listed already|links to folders that are listed already"
MASK = "the mask of another|the masks of others"
RESULT = "a result of an earlier inference|results of an earlier inference"
LABEL_FOLDER = "a folder of labels|folders of labels"


def _walk(root: Path, found: _Found, masks: bool) -> None:
    """Find the files of volumes below a folder; links or not, each folder is entered once."""
    entered = {os.path.realpath(root)}

    def visit(folder: Path) -> bool:
        """Tell whether there is anything in it."""
        empty, labels = True, LABELS if not masks and _is_task(folder) else ()
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith("."):
                continue
            empty, name = False, entry.relative_to(root).as_posix()
            if entry.is_dir() and entry.name in labels:
                found.left_out[LABEL_FOLDER].append(name)
            elif entry.is_dir():
                real = os.path.realpath(entry)
                if real in entered:
                    found.left_out[SEEN].append(name)
                    continue
                entered.add(real)
                try:
                    if not visit(entry):
                        found.left_out[NO_VOLUME].append(name)
                except PermissionError as error:
                    found.failures[str(entry)] = f"{entry} cannot be opened ({error.strerror})."
            elif not entry.exists():
                found.left_out[DANGLING].append(name)
            elif _is_volume(entry):
                found.files.append(entry)
            elif not _belongs_to_header(entry) and not is_dicom_file(entry):
                found.left_out[NO_VOLUME].append(name)
        return not empty

    visit(root)


def _is_task(folder: Path) -> bool:
    """Tell whether a folder is a task in the layout of the Medical Segmentation Decathlon."""
    try:
        content = read_dataset_json(folder / "dataset.json")
    except (OSError, ValueError):
        return False
    return not content.keys().isdisjoint({"labels", "training"}) and (folder / "imagesTr").is_dir()


def _name_files(root: Path, found: _Found, masks: bool) -> dict[str, list[str]]:
    """Return name to paths of the files that are scans, and note the others."""
    names: dict[Path, str] = {path: _name_below(root, path) for path in found.files}
    results = _results(root, names)
    present = {name for full in names.values() for name in (full, split_channel(full)[0])}
    named: dict[str, list[str]] = defaultdict(list)
    for path, name in names.items():
        stem = next((name.removesuffix(suffix) for suffix in MASK_SUFFIXES if name.endswith(suffix)), name)
        if path in results:
            found.left_out[RESULT].append(path.relative_to(root).as_posix())
        elif not masks and (_is_segmentation(path) or (stem != name and stem in present)):
            found.left_out[MASK].append(path.relative_to(root).as_posix())
        else:
            named[name].append(str(path))
    return named


def _results(root: Path, files: Collection[Path]) -> set[Path]:
    """Return the files that the table of an earlier inference, in their folder or one above, names as its results."""
    found: set[Path] = set()
    for folder in {above for path in files for above in path.parents if above == root or root in above.parents}:
        table = folder / "scans.csv"
        with suppress(OSError, UnicodeDecodeError, csv.Error), table.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                if "fingerprint" in row:  # without, it is a table of somebody else
                    names = (row.get("files") or "").split(";")
                    found.update(folder / name.replace("%3B", ";").replace("%25", "%") for name in names if name)
    return found.intersection(files)


def _name_below(folder: Path, path: Path) -> str:
    return (path.parent / case_name(path)).relative_to(folder).as_posix()


def _is_volume(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")


def _is_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(SEGMENTATION)


def _belongs_to_header(path: Path) -> bool:
    """Tell whether a file holds the voxels of a MetaImage beside it."""
    return path.suffix.lower() in (".raw", ".zraw") and path.with_suffix(".mhd").is_file()


def _places(path: Place | Sequence[Place]) -> list[Place]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)


def _files(path: Place) -> list[Path]:
    place = _on_disk(path)
    if place.is_dir():
        return list(read_series(path, resample=True).files)
    voxels = place.parent.glob(f"{glob.escape(place.stem)}.*raw*") if place.suffix.lower() == ".mhd" else ()
    return [place, *sorted(voxels)]


def _on_disk(path: str | os.PathLike[str]) -> Path:
    """Return the file or folder of a path, which is the folder of ``FOLDER::NAME``."""
    whole = Path(path)
    place = whole if whole.exists() or "::" not in str(path) else Path(str(path).rpartition("::")[0])
    if not place.exists():
        raise FileNotFoundError(f"{path} does not exist; add it, or drop its entry from the list.")
    return place


@lru_cache(maxsize=1024)
def _open(path: Path, modified: int) -> Scan:
    """Read the header of a file, once as long as it stays the same."""
    if is_nifti(path):
        return _open_nifti(path)
    if _is_volume(path):
        return _open_itk(path)
    raise ValueError(f"{path} is none of {', '.join(ENDINGS)} and no folder of a DICOM series; convert it to .nii.gz.")


@cache
def _warn_once(line: str) -> None:
    logger.warning("%s", line)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Name the file in what its library says of voxels that cannot be read."""
    try:
        yield
    except (OSError, EOFError, zlib.error, RuntimeError, TypeError, ValueError) as error:
        if path in str(error):
            raise
        raise ValueError(f"{path} cannot be read ({_reason(error)}); copy it anew.") from None


def _reason(error: BaseException) -> str:
    """Return what an error says, of ITK's many lines the one that counts."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = next((line for line in lines if "ITK ERROR" in line), lines[-1])
    return line.rpartition("): ")[2].rstrip(".")


def _open_series(path: str, resample: bool) -> Scan:
    """Open a DICOM series, whose headers ``dicom.py`` keeps."""
    series = read_series(path, resample)
    check_affine(path, series.affine, "the DICOM headers")
    return Scan(path, series.name, series.shape, series.affine, series.read, series.read, modality=series.modality)


def _open_nifti(path: Path) -> Scan:
    raw = read_nifti_header(path)
    try:
        stored = ArrayProxy(str(path), type(raw)(raw.binaryblock, raw.endianness))
    except (HeaderDataError, KeyError, ValueError) as e:
        raise ValueError(f"{path} is not a readable NIfTI file ({_reason(e)}); replace or convert it.") from None
    shape = list(stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} has shape {stored.shape}, but must be a 3-D volume, or 4-D with channels last.")
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds voxels of type {stored.dtype}, but they must be numbers; convert it.")
    if not _is_complete(path, stored):
        raise ValueError(
            f"{path} is cut off or damaged: fewer bytes than its header announces can be read; copy it anew."
        )
    geometry = nifti_geometry(path, need_spacing=False)
    for line in geometry.warnings:
        _warn_once(line)
    x, y, z = shape[:3]
    return Scan(
        path=str(path),
        name=case_name(path),
        shape=(x, y, z),
        affine=geometry.affine,
        read_box=partial(_read_nifti, path, stored),
        read_all=partial(_read_whole_nifti, path, stored, tuple(shape)),
        channels=shape[3] if len(shape) > 3 else 1,
        has_spacing=geometry.has_spacing,
    )


def _check_start(stored: ArrayProxy) -> None:
    if stored.offset == 0:  # nibabel would take the header for voxels
        raise ValueError(f"{stored.file_like} says that its voxels begin at byte 0, in its header; convert it anew.")


def _read_nifti(path: Path, stored: ArrayProxy, box: Sequence[slice]) -> NDArray[Any]:
    _check_start(stored)
    try:
        part = stored[tuple(box)]
    except gzip.BadGzipFile:  # as it is if other bytes follow its end, which Python's gzip cannot tell from damage
        part = _unpack(path, stored)[tuple(box)]
    return np.asarray(part).reshape([axis.stop - axis.start for axis in box])


def _read_whole_nifti(path: Path, stored: ArrayProxy, shape: tuple[int, ...]) -> NDArray[Any]:
    _check_start(stored)
    array = _unpack(path, stored) if path.suffix.lower() == ".gz" else np.asanyarray(stored)
    return array.reshape(shape, order="F").astype(array.dtype.newbyteorder("="), copy=False)


def _unpack(path: Path, stored: ArrayProxy) -> NDArray[Any]:
    """Return the voxels of a packed file, unpacked in one go and checked, which nibabel does piece by piece without."""
    packed, end = path.read_bytes(), stored.offset + _bytes(stored)
    content = zlib.decompress(packed, wbits=GZIP, bufsize=end)
    if len(content) < end:  # the first of several members
        content = b"".join(_members(path, end))
    voxels: NDArray[Any] = np.ndarray(stored.shape, stored.dtype, content, stored.offset, order="F")
    return np.asarray(apply_read_scaling(voxels, stored.slope, stored.inter))


def _members(path: Path, end: int) -> Iterator[bytes]:
    """Yield the content of a packed file's members up to the one that holds byte ``end``; what follows is not read.

    Raises:
        EOFError, zlib.error: if there is no such byte, or a member is cut off or damaged.
    """
    with path.open("rb") as file:
        member, length, packed = zlib.decompressobj(GZIP), 0, b""
        while length < end or not member.eof:
            if member.eof:
                member, packed = zlib.decompressobj(GZIP), member.unused_data
            if not packed and not (packed := file.read(1 << 16)):
                raise EOFError("it is cut off")
            block, packed = member.decompress(packed), b""
            length += len(block)
            yield block


def _bytes(stored: ArrayProxy) -> int:
    return int(np.prod(stored.shape, dtype=np.int64)) * stored.dtype.itemsize


def _is_complete(path: Path, stored: ArrayProxy) -> bool:
    """Compare the length of a file, that which a gzip file records at its end, with the one its header announces."""
    expected = int(stored.offset) + _bytes(stored)
    if path.suffix.lower() != ".gz":
        return path.stat().st_size >= expected
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        recorded = struct.unpack("<I", file.read(4))[0]
    if recorded >= expected % 2**32 and recorded - expected % 2**32 < 1024:  # some writers pad the end
        return True
    try:  # a file of several members ends with the last one's length alone, or other bytes follow: only reading tells
        return sum(map(len, _members(path, expected))) >= expected
    except (EOFError, zlib.error):
        return False


def _open_itk(path: Path) -> Scan:
    """Open a file that ITK reads; a NRRD file's list axis holds its channels."""
    io = _itk_io(path)
    if io.GetNumberOfDimensions() != 3:
        raise ValueError(f"{path} has {io.GetNumberOfDimensions()} dimensions, but a scan must have three; split it.")
    fields = _header_fields(path)
    if not fields & {"space directions", "transformmatrix", "orientation", "rotation"}:
        raise ValueError(f"{path} gives no directions, so left and right are unknown; write them into its header.")
    if path.suffix.lower() == ".nrrd" and "space" not in fields:
        _warn_once(f"{path}: its header does not name its space; left-posterior-superior is taken.")
    if not fields & {"space directions", "elementspacing", "elementsize"}:
        raise ValueError(f"{path} has no valid spacing (it gives none); repair its header.")
    affine = _itk_affine(path, io)
    x, y, z = (int(io.GetDimensions(axis)) for axis in range(3))
    channels = int(io.GetNumberOfComponents())
    kind = ITK_TYPES.get(io.GetComponentTypeAsString(io.GetComponentType()), itk.D)
    image_type = itk.Image[kind, 3] if channels == 1 else itk.VectorImage[kind, 3]
    read_box = partial(_read_itk, path, image_type)
    read_all = partial(read_box, (slice(0, x), slice(0, y), slice(0, z)))
    return Scan(str(path), case_name(path), (x, y, z), affine, read_box, read_all, channels)


def itk_affine(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return voxel to RAS mm, (4, 4), as ITK and programs that are built on it see a file, such as 3D Slicer.

    For a NIfTI file it may be another than :func:`open_scan` gives.

    Raises:
        ValueError: if ITK cannot read the header, or takes from it what :func:`check_affine` refuses.
    """
    return _itk_affine(Path(path), _itk_io(Path(path)))


def _itk_affine(path: Path, io: Any) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.array([io.GetDirection(n)[:3] for n in range(3)]).T * [io.GetSpacing(n) for n in range(3)]
    affine[:3, 3] = [io.GetOrigin(axis) for axis in range(3)]
    affine = LPS_TO_RAS @ affine
    check_affine(path, affine)
    return affine


def _itk_io(path: Path) -> Any:
    """Return ITK's reader of a file's format, which has read its header."""
    io = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    try:
        if io is None:
            raise RuntimeError("a header of that format is missing at its start")
        io.SetFileName(str(path))
        io.ReadImageInformation()
    except RuntimeError as e:
        raise ValueError(f"{path} is not a readable volume ({_reason(e)}); replace or convert it.") from None
    return io


def _header_fields(path: Path) -> set[str]:
    """Return the names of the fields in the text that a NRRD or MetaImage file begins with."""
    fields = set()
    with path.open("rb") as file:
        for line in iter(partial(file.readline, 65536), b""):
            name = line.decode("latin-1").partition(":" if path.suffix.lower() == ".nrrd" else "=")[0].strip().lower()
            fields.add(name)
            if name in ("", "elementdatafile"):
                break
    return fields


def _read_itk(path: Path, image_type: Any, box: Sequence[slice]) -> NDArray[Any]:
    """Read a box, channels last; of a MetaImage that is not compressed, ITK reads no more than that from disk."""
    region = itk.ImageRegion[3]()
    region.SetIndex([axis.start for axis in box])
    region.SetSize([axis.stop - axis.start for axis in box])
    reader = itk.ImageFileReader[image_type].New(FileName=str(path))  # named, since its output has no voxels without it
    reader.UpdateOutputInformation()
    part = itk.region_of_interest_image_filter(reader.GetOutput(), region_of_interest=region)
    array = itk.array_from_image(part)
    return np.asarray(array.T if array.ndim == 3 else np.moveaxis(array, -1, 0).T)
