"""Tell which layout a folder has, or what two paths stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from med3d_components.data.dicom import walk_files
from med3d_components.data.folders import MASK_SUFFIXES
from med3d_components.data.scan import ENDINGS, case_name
from med3d_components.prepare.dicom_labels import find_dicom_labels
from med3d_components.prepare.layouts.base import CaseSource, LabelSource, Layout
from med3d_components.prepare.layouts.dicom import dicom_layout
from med3d_components.prepare.layouts.patterns import CASE, CLASS, organ_masks, pattern_layout, single_case
from med3d_components.prepare.layouts.task import read_task
from med3d_components.prepare.pairing import pair_folders, same_form

__all__ = ["find_layout", "layout_of"]

_FOLDERS = (("imagesTr", "labelsTr"), *((one, other) for one in ("images", "scans") for other in ("labels", "masks")))
_SCANS = ("ct.nii.gz", "mri.nii.gz")
_MASKS = "segmentations"
_HELP = "give --images and --labels, or --pairs TABLE.csv; --help has examples"

_Find = Callable[[], Layout]


def find_layout(source: Path) -> Layout:
    """Find the cases of a folder, whichever of the known layouts it has; a dataset.json settles it.

    Raises:
        FileNotFoundError: if there is no such folder, no layout is known, or a file of a case is missing.
        ValueError: if the folder can be read in several ways.

    Example:
        >>> find_layout(Path("3DSeg-8/Task09_Spleen")).title
        'task of the Medical Segmentation Decathlon'
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder; give the one that holds the scans and their labels.")
    if (source / "dataset.json").is_file():
        return read_task(source)
    ways = {title: find for way in (_by_class, _two_folders, _side_by_side, _dicom) for title, find in way(source)}
    if not ways:
        raise FileNotFoundError(f"{source} has no layout that is known; {_HELP}.")
    if len(ways) > 1:
        raise ValueError(f"{source} can be read in {len(ways)} ways: {', or '.join(ways)}; {_HELP}.")
    return next(iter(ways.values()))()


def layout_of(images: str, labels: str) -> Layout:
    """Find the cases of two paths: patterns with ``{case}``, files, or folders.

    Args:
        images: pattern, file or folder, which may be a DICOM series.
        labels: pattern, file, folder of a label for each image, or folder of a mask for each class of one image.

    Raises:
        FileNotFoundError: if there is no such file or folder, or a file of a case is missing.
        ValueError: as :func:`pattern_layout`, :func:`dicom_layout` or :func:`pair_folders`.
    """
    if CASE in images + labels:
        return pattern_layout(images, labels)
    for path in (images, labels):
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist; give a file, a folder, or a pattern with {CASE}.")
    image, label = Path(images), Path(labels)
    if image.is_dir() and (objects := find_dicom_labels(label)):
        return dicom_layout(image, objects)
    if label.is_file():
        return single_case(image, label)
    return organ_masks(image, label) if image.is_file() else _paired(image, label)


def _paired(images: Path, labels: Path) -> Layout:
    pairs = pair_folders(images, labels)
    cases = {name: CaseSource((image,), (LabelSource(label),)) for name, (image, label) in pairs.items()}
    return Layout("a folder of images and one of labels", cases)


def _by_class(source: Path) -> Iterator[tuple[str, _Find]]:
    """Find what TotalSegmentator writes, and the data set that it was trained on."""
    for scan in _SCANS:
        if any((folder.parent / scan).is_file() for folder in source.glob(f"*/{_MASKS}")):
            images, masks = (f"{source}/{CASE}/{name}" for name in (scan, f"{_MASKS}/{CLASS}.nii.gz"))
            title = f"a mask for each class beside {scan}, as of TotalSegmentator"
            yield title, partial(pattern_layout, images, masks, title)


def _two_folders(source: Path) -> Iterator[tuple[str, _Find]]:
    for images, labels in _FOLDERS:
        if (source / images).is_dir() and (source / labels).is_dir() and _volumes(source / labels):
            yield f"the folders {images} and {labels}", partial(_paired, source / images, source / labels)


def _side_by_side(source: Path) -> Iterator[tuple[str, _Find]]:
    """Find labels in the folder of their scans, such as ``a_seg.nii.gz`` or ``a.seg.nrrd`` beside ``a.nii.gz``."""
    files = {same_form((path.parent / case_name(path)).as_posix()): path for path in _volumes(source)}
    scans = {label: _scan_of(name, files) for name, label in files.items()}
    pairs = [(files[scan], label) for label, scan in scans.items() if scan]
    if pairs:
        yield "labels beside their scans", partial(_pair_neighbours, source, pairs, list(files.values()))


def _scan_of(name: str, files: Mapping[str, Path]) -> str:
    stems = (name.removesuffix(suffix) for suffix in MASK_SUFFIXES if name.endswith(suffix))
    return next((stem for stem in stems if stem in files), "")


def _pair_neighbours(source: Path, pairs: list[tuple[Path, Path]], files: list[Path]) -> Layout:
    cases: dict[str, CaseSource] = {}
    for image, label in pairs:
        name = same_form((image.parent / case_name(image)).relative_to(source).as_posix())
        if name in cases:
            raise ValueError(f"{image} has two labels, {cases[name].labels[0].path} and {label}; move one away.")
        cases[name] = CaseSource((image,), (LabelSource(label),))
    for path in sorted(set(files).difference(*pairs)):
        raise FileNotFoundError(f"{path} has no label beside it; add it, or move the file out of the source folder.")
    return Layout("labels beside their scans", cases)


def _dicom(source: Path) -> Iterator[tuple[str, _Find]]:
    if labels := find_dicom_labels(source):
        yield f"{len(labels)} DICOM labels with their series", partial(dicom_layout, source, labels)


def _volumes(folder: Path) -> list[Path]:
    """Return the volumes below a folder, but for those of training sets, such as one imported from here."""
    found = [path for path in walk_files(folder, []) if path.name.lower().endswith(ENDINGS) and path.name[0] != "."]
    above = {parent for path in found for parent in path.relative_to(folder).parents}
    sets = {parent for parent in above if parent != Path() and (folder / parent / "dataset.json").is_file()}
    return [path for path in found if sets.isdisjoint(path.relative_to(folder).parents)]
