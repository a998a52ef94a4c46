"""Bring other people's scans and labels into the layout of a training set.

Segmentation data comes in folders in the layout of the Medical Segmentation Decathlon (MSD), one per domain; nodules
to classify in a folder with a dataset.json that lists them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from med3d_components.data.domains import DOMAINS_3DSEG8, DomainFacts
from med3d_components.prepare.importing import find_values, import_domain
from med3d_components.prepare.lidc import import_lidc
from med3d_components.prepare.lits import pair_lits, place_pairs
from med3d_components.prepare.lits_submission import write_submission
from med3d_components.prepare.msd import download_task
from med3d_components.prepare.pairing import Pairs, pair_files, pair_folders
from med3d_components.prepare.visceral import import_visceral
from med3d_components.utils import as_flag
from med3d_components.utils.checks import three_positive

__all__ = ["lasc", "lidc", "lits", "lits_submission", "msd", "segmentation", "visceral"]


def msd(task: str, out: str) -> None:
    """Download a task of the Medical Segmentation Decathlon, check it and unpack it.

    The archive stays in OUT, and may be deleted afterwards. An archive that is there already is checked and used. While
    it downloads it lies in the system's temporary folder: set TMPDIR if that one is too small.

    Args:
        task: for example Task09_Spleen.
        out: folder for the archive and the task's folder.
    """
    folder = Path(str(out), task)
    download_task(task, folder)
    print(f"{folder} is ready.")


def lasc(source: str, out: str) -> None:
    """Import the training set of the Left Atrium Segmentation Challenge 2018, got on registration with its host.

    Args:
        source: folder with a folder per patient, each with lgemri.nrrd and laendo.nrrd; it is only read.
        out: folder for LASC2018_LeftAtrium.
    """
    pairs = pair_files(str(source), "lgemri.nrrd", "laendo.nrrd", lambda path: path.parent.name)
    _import_known(Path(str(out), "LASC2018_LeftAtrium"), pairs, {0: 0, 255: 1})


def lits(source: str, out: str, spacing: Sequence[float] | None = None) -> None:
    """Import the training set of the Liver Tumour Segmentation challenge (LiTS) 2017.

    A segmentation has the voxels of its volume: where their headers differ, that of the volume is taken. In one release
    volumes 28 to 47 have the identity as affine: they get that of their segmentation, or are left out if it has it too.

    Args:
        source: folder with volume-N.nii and segmentation-N.nii, in any sub-folders; or Task03_Liver of the MSD, which
            holds the same scans. It is only read.
        out: folder for Task03_Liver.
        spacing: in mm, such as 0.7,0.7,1.5, of the volumes that would be left out.
    """
    size = None if spacing is None else three_positive("spacing", spacing)
    folder, spare = Path(str(out), "Task03_Liver"), Path(str(out), ".Task03_Liver-placed")
    try:
        _import_known(folder, place_pairs(pair_lits(Path(str(source))), spare, size), {0: 0, 1: 1, 2: 2})
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def lits_submission(masks: str, volumes: str, out: str, output_postfix: str = "seg") -> None:
    """Write the masks of a test set as the Liver Tumour Segmentation challenge (LiTS) takes them.

    That is test-segmentation-N.nii for test-volume-N.nii: not compressed, of 8 bits, with the size, orientation and
    header of the volume; 0 is background, 1 liver and 2 lesion. Zip them for the upload.

    Args:
        masks: folder that segment wrote for the test volumes; it is only read.
        volumes: folder with test-volume-N.nii, in any sub-folders; it is only read.
        out: folder for the test-segmentation-N.nii.
        output_postfix: as it was given to segment.
    """
    written = write_submission(str(masks), str(volumes), str(out), str(output_postfix))
    print(f"{len(written)} masks are written to {out}.")


def segmentation(images: str, labels: str, out: str, classes: str | Sequence[str] | None = None) -> None:
    """Import any folder of images and labels as one domain.

    Images are NIfTI, NRRD or MetaImage files, or sub-folders with a DICOM series each; labels are files of the same
    name. Left out of the name, where it has to be, is _0000 of an image and _seg, _label, _mask or -label of a label.

    Args:
        images: folder of the images, one 3-D image per case; it is only read.
        labels: folder of the labels; it is only read.
        out: folder for the domain itself: the one that gets the dataset.json.
        classes: names joined by commas in the order of the label values, background first. Without, the values found
            in the labels become the classes, and gaps between them are closed.
    """
    pairs = pair_folders(str(images), str(labels))
    names, values = _classes_of(pairs) if classes is None else _named_classes(classes)
    facts = DomainFacts(
        modality="not stated",
        target=", ".join(names[1:]),
        classes=names,
        source="own files",
        licence="that of the files it was imported from",
    )
    _report(Path(str(out)), import_domain(str(out), facts, pairs, values))
    for value, target in values.items():
        print(f"Label value {value} is written as {target}: {names[target]}.")


def visceral(source: str, out: str, sides: bool = True) -> None:
    """Import the lungs of VISCERAL Anatomy3. You need a licence, and must not pass the data on.

    A volume without both lungs is skipped; where several annotators outlined a lung, that of the lowest id is taken.

    Args:
        source: folder with volumes such as 10000100_1_CTce_ThAb.nii.gz and segmentations such as
            10000100_1_CTce_ThAb_1302_7.nii.gz, in any sub-folders; it is only read.
        out: folder for VISCERAL_Lungs.
        sides: whether the right lung is class 1 and the left lung class 2; if false, both are class 1, lung.
    """
    print("VISCERAL's data agreement forbids to pass on the data; that holds for the imported files as well.")
    folder = Path(str(out), "VISCERAL_Lungs")
    _report(folder, import_visceral(str(source), folder, as_flag("sides", sides)))


def lidc(source: str, out: str) -> None:
    """Import LIDC-IDRI as a list of nodules with the readers' malignancy scores, for the nodule classification.

    The scans stay where they are; OUT gets a dataset.json that names them, and a small mask for each nodule.

    Args:
        source: the unpacked download of The Cancer Imaging Archive, DICOM series and XML files at any depth.
        out: folder for dataset.json and masks.
    """
    _report(Path(str(out)), import_lidc(str(source), str(out)))


def _classes_of(pairs: Pairs) -> tuple[tuple[str, ...], dict[int, int]]:
    """Return class names, and value in the labels to class, for the values that the labels have."""
    found = [value for value in find_values(label for _, label in pairs.values()) if value > 0]
    if not found:
        raise ValueError("The labels have no value but 0, which is background; give labels that outline something.")
    values = {value: index for index, value in enumerate([0, *found])}
    return ("background", *(f"class {value}" for value in found)), values


def _named_classes(classes: str | Sequence[str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Return class names, and value in the labels to class, for names as Fire hands them over."""
    names = tuple(
        str(name).strip() for name in (classes if isinstance(classes, list | tuple) else str(classes).split(","))
    )
    if len(names) < 2 or len(set(names)) < len(names) or "" in names or names[0] != "background":
        raise ValueError(f"classes are {', '.join(names)}, but must be different names, the first of them background.")
    return names, {value: value for value in range(len(names))}


def _import_known(folder: Path, pairs: Pairs, values: Mapping[int, int]) -> None:
    """Import a domain of 3DSeg-8."""
    _report(folder, import_domain(folder, DOMAINS_3DSEG8[folder.name], pairs, values))


def _report(folder: Path, written: bool) -> None:
    print(f"{folder} {'is written' if written else 'is already there'}.")
