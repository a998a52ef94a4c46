"""Bring other people's scans and labels into the layout of a training set.

Segmentation data comes in folders in the layout of the Medical Segmentation Decathlon (MSD), one per domain; nodules
to classify in a folder with a dataset.json that lists them. A command that writes segmentation data ends with a report
of it, as the command check writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from med3d_components.commands.data import check
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.prepare.importing import import_domain
from med3d_components.prepare.layouts import Layout, find_layout, layout_of, read_table
from med3d_components.prepare.lidc import import_lidc
from med3d_components.prepare.lits import pair_lits, place_pairs
from med3d_components.prepare.lits_submission import write_submission
from med3d_components.prepare.msd import download_task
from med3d_components.prepare.pairing import Pairs, pair_files
from med3d_components.prepare.segmentation import import_layout
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
    check(str(folder))


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


def segmentation(
    out: str,
    source: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    pairs: str | None = None,
    classes: str | None = None,
) -> None:
    """Import your own scans and labels as one domain. Give --source, or --images and --labels, or --pairs.

    One of these, which are only read:

        --source FOLDER                     a layout that is known, see below
        --images scans --labels masks       two folders with files of the same names
        --images ct.nii.gz --labels a.nii   an image and its label
        --images ct.nii.gz --labels masks   an image and a mask for each class: masks/liver.nii.gz
        --images "{case}/ct.nii.gz" --labels "{case}/seg.nii.gz"
        --images "{case}.nii.gz" --labels "{case}/{class}.nii.gz"
        --pairs table.csv                   with the columns image and label, and case if need be

    Layouts that are known: a task of the Medical Segmentation Decathlon; a raw dataset of nnU-Net; CASE/ct.nii.gz with
    CASE/segmentations/CLASS.nii.gz, as of TotalSegmentator; folders named images or scans, and labels or masks; labels
    beside their scans, as a_seg.nii.gz or a.seg.nrrd beside a.nii.gz; DICOM series with SEG or RTSTRUCT anywhere below.

    Images are NIfTI, NRRD or MetaImage files, or folders with a DICOM series; labels also .seg.nrrd of 3D Slicer, DICOM
    SEG (needs highdicom) and RTSTRUCT. In two folders, _0000 of an image and _seg, _label, _mask or -label of a label
    are left out of the name where they have to be.

    Args:
        out: folder for the domain itself: the one that gets the dataset.json.
        source: folder of a known layout.
        images: folder of the images, one image, or a pattern with {case}.
        labels: folder of the labels, one label, or a pattern with {case}, and {class} for a mask of each class.
        pairs: CSV of images and labels; paths in it start at its folder.
        classes: which classes to take, such as liver=5,kidney=2+3 by label values, or liver,tumour="GTV 1"+"GTV 2" by
            names; a later one covers those before it, and what is not named becomes background. background,liver,tumour
            names the values 0, 1, 2. By default all classes are taken, and gaps between values closed.
    """
    layout = _find_layout(source, images, labels, pairs)
    print(f"{len(layout.cases)} {'case' if len(layout.cases) == 1 else 'cases'} found: {layout.title}.")
    _report(Path(out), import_layout(out, layout, classes))


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
    _say_written(Path(str(out)), import_lidc(str(source), str(out)))


def _find_layout(source: str | None, images: str | None, labels: str | None, pairs: str | None) -> Layout:
    """Return the layout of what was given, which is one of three things."""
    given = [name for name, value in (("source", source), ("images", images), ("pairs", pairs)) if value is not None]
    if len(given) != 1 or (images is None) != (labels is None):
        raise ValueError(
            "Give one of --source FOLDER, --images with --labels, or --pairs TABLE.csv; --help explains them."
        )
    if images is not None and labels is not None:
        return layout_of(images, labels)
    return find_layout(Path(source)) if source is not None else read_table(Path(str(pairs)))


def _import_known(folder: Path, pairs: Pairs, values: Mapping[int, int]) -> None:
    """Import a domain of 3DSeg-8."""
    _report(folder, import_domain(folder, DOMAINS_3DSEG8[folder.name], pairs, values))


def _report(folder: Path, written: bool) -> None:
    """Say that segmentation data is written, and what a look at it shows; exit code 1 if a case cannot be used."""
    _say_written(folder, written)
    check(str(folder))


def _say_written(folder: Path, written: bool) -> None:
    print(f"{folder} {'is written' if written else 'is already there'}.")
