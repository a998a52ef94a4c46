"""Which scans a path stands for: a file, a DICOM series, or a folder of these at any depth."""

from __future__ import annotations

import csv
import glob
import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from med3d_components.data.channels import channel_items, split_channel
from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.dicom import find_series
from med3d_components.data.dicom_files import is_dicom_file
from med3d_components.data.scan import ENDINGS, Place, case_name, is_volume_file
from med3d_components.data.volumes import open_scan

__all__ = ["MASK_SUFFIXES", "Listing", "channel_files", "list_images", "list_scans"]

logger = logging.getLogger(__name__)

MASK_SUFFIXES = ("_seg", "_label", "_mask", "-label", "_segmentation", "-segmentation", "_labels", ".seg")
"""Ends of the names of masks that lie beside their scans."""
SEGMENTATION = ".seg.nrrd"
"""Ending of a 3D Slicer segmentation, which is no scan wherever it lies."""
LABELS = ("labelsTr", "labelsTs")
"""Folders of labels in the layout of the Medical Segmentation Decathlon."""
LISTED = 5
"""How many entries a line names."""


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
    elif is_volume_file(root) and not masks and _is_segmentation(root):
        found.left_out[MASK].append(root.name)
    elif is_volume_file(root):
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


def list_images(
    path: str | os.PathLike[str], resample: bool = False, in_channels: int = 1, channel: int | None = None
) -> list[dict[str, Any]]:
    """List scans as items ``{"image": path, "case": name}`` for inference, see :func:`list_scans`.

    What is left out is logged. What should be a scan but is none is an item too, with the reason under "error" and a
    name of its own: its path below the folder, the folder's name if it is that itself, or the UID of its series.

    Args:
        path: of the file, series or folder.
        resample: of DICOM series, see :func:`open_scan`.
        in_channels: of a scan. With several, the files ``CASE_0000``, ``CASE_0001`` and so on are one scan, for which
            any of them stands, and whose item has a list of paths.
        channel: that a network of one channel sees of scans with several; such files are one scan then, too, whose item
            has the path of that channel. None if its scans have one.

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
    alone = in_channels == 1 and channel is None
    if not alone and Path(path).is_file():
        scans |= {case_name(file): str(file) for file in channel_files(path)}
    whole = {name for name, place in scans.items() if alone or _has_channels(place, resample)}
    items = channel_items(scans, whole, in_channels, channel)
    if channel is not None:
        _tell_left_out(len(scans), items.values(), channel)
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


def _tell_left_out(count: int, items: Iterable[Mapping[str, Any]], channel: int) -> None:
    """Log how many of the files are other channels than the one that is taken."""
    taken = sum(1 if isinstance(item["image"], str) else len(item["image"]) for item in items)
    if others := count - taken:
        logger.warning("%d of %d files are no scans: the model sees the channel %d alone.", others, count, channel)


def _has_channels(path: str, resample: bool = False) -> bool:
    """Tell whether a file holds several channels; what cannot be opened tells so when it is read."""
    try:
        return open_scan(path, need_spacing=False, resample=resample).channels > 1
    except (OSError, ValueError):
        return False


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
            elif is_volume_file(entry):
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


def _is_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(SEGMENTATION)


def _belongs_to_header(path: Path) -> bool:
    """Tell whether a file holds the voxels of a MetaImage beside it."""
    return path.suffix.lower() in (".raw", ".zraw") and path.with_suffix(".mhd").is_file()
