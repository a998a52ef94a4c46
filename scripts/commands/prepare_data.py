"""The code of ``scripts/prepare_data.py``: its commands, and what is particular to one set of data."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from monai.apps import DecathlonDataset
from monai.apps.utils import HashCheckError, download_url, extractall

from med3d_components.data.domains import DOMAINS_3DSEG8, DomainFacts
from med3d_components.data.volumes import case_name, open_scan, read_header, read_volume
from med3d_components.prepare.decathlon import save_nifti
from med3d_components.prepare.importing import find_values, import_domain
from med3d_components.prepare.lidc import import_lidc
from med3d_components.prepare.pairing import Pairs, pair_files, pair_folders
from med3d_components.prepare.visceral import import_visceral
from med3d_components.utils import as_flag
from scripts.samples import write_nodules, write_sample

__all__ = ["lasc", "lidc", "lits", "msd", "sample", "segmentation", "visceral"]


def sample(out: str, seed: int = 0, cases: int | None = None, of: str = "domains") -> None:
    """Write small SYNTHETIC scans, to try the bundles without a download.

    The scans are shapes drawn by a program. What a network learns from them says nothing about medicine.
    The same command always writes the same files; run again, it finds its work done or continues where it stopped, but
    starts anew with nodules.

    Args:
        out: folder for the folders of the sample.
        seed: of the synthetic patients.
        cases: scans per folder; by default 6 of domains, 10 of lungs, 16 of livers and 16 of nodules.
        of: domains, all eight of 3DSeg-8; lungs or livers, to segment; or nodules, benign or malignant, to classify.
    """
    samples = {
        "domains": (tuple(DOMAINS_3DSEG8), 6),
        "lungs": (("Synthetic_Lungs",), 10),
        "livers": (("Synthetic_Livers",), 16),
        "nodules": (("Synthetic_Nodules",), 16),
    }
    if of not in samples:
        raise ValueError(f"of is {of!r}, but must be one of {', '.join(samples)}.")
    print("The sample data is synthetic: shapes drawn by a program. It says nothing about medicine.")
    names, usual = samples[of]
    for name in names:
        write = write_nodules if of == "nodules" else write_sample
        _report(Path(str(out), name), write(Path(str(out), name), usual if cases is None else cases, seed))


def msd(task: str, out: str) -> None:
    """Download a task of the Medical Segmentation Decathlon, check it and unpack it.

    The archive stays in OUT, and may be deleted afterwards. An archive that is there already is checked and used. While
    it downloads it lies in the system's temporary folder: set TMPDIR if that one is too small.

    Args:
        task: for example Task09_Spleen.
        out: folder for the archive and the task's folder.
    """
    if task not in DecathlonDataset.resource:
        raise ValueError(f"There is no task {task!r}; choose one of {', '.join(DecathlonDataset.resource)}.")
    folder = Path(str(out), task)
    if not folder.exists():
        _unpack(_download(task, folder.parent), folder)
    dataset = folder / "dataset.json"
    if not dataset.is_file():
        raise FileNotFoundError(f"{folder} has no dataset.json, so it is not a whole task; move it away and run again.")
    if "synthetic" in json.loads(dataset.read_text(encoding="utf-8")):
        raise FileExistsError(f"{folder} holds synthetic sample data; choose another folder for the real task.")
    for stray in folder.rglob("._*"):  # left by the computer that packed the archive; they look like volumes
        stray.unlink()
    print(f"{folder} is ready.")


def lasc(source: str, out: str) -> None:
    """Import the training set of the Left Atrium Segmentation Challenge 2018, got on registration with its host.

    Args:
        source: folder with a folder per patient, each with lgemri.nrrd and laendo.nrrd; it is only read.
        out: folder for LASC2018_LeftAtrium.
    """
    pairs = pair_files(str(source), "lgemri.nrrd", "laendo.nrrd", lambda path: path.parent.name)
    _import_known(Path(str(out), "LASC2018_LeftAtrium"), pairs, {0: 0, 255: 1})


def lits(source: str, out: str) -> None:
    """Import the training set of the Liver Tumour Segmentation challenge (LiTS) 2017.

    A segmentation has the voxels of its volume: where their headers differ, that of the volume is taken.

    Args:
        source: folder with volume-N.nii and segmentation-N.nii, in any sub-folders; or Task03_Liver of the MSD, which
            holds the same scans. It is only read.
        out: folder for Task03_Liver.
    """
    folder, spare = Path(str(out), "Task03_Liver"), Path(str(out), ".Task03_Liver-segmentations")
    try:
        _import_known(folder, _share_grids(_pair_lits(Path(str(source))), spare), {0: 0, 1: 1, 2: 2})
    finally:
        shutil.rmtree(spare, ignore_errors=True)


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


def _download(task: str, folder: Path) -> Path:
    """Return the archive of a task, downloaded unless it is there."""
    url, archive = DecathlonDataset.resource[task], folder / f"{task}.tar"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        download_url(url, archive, hash_val=DecathlonDataset.md5[task], hash_type="md5")
    except HashCheckError as error:
        raise ValueError(f"{url} or {archive} is damaged (wrong md5); delete the archive and run again.") from error
    except (OSError, RuntimeError) as error:
        raise OSError(f"No download ({error}). Get {url} by hand, save it as {archive} and run again.") from error
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive so that its folder appears when it is complete."""
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as temporary:
        extractall(archive, temporary)
        Path(temporary, folder.name).replace(folder)


def _pair_lits(source: Path) -> Pairs:
    """Return the pairs of LiTS from either layout, under the same names and in the order of their numbers."""
    if not (source / "dataset.json").is_file():
        return pair_files(
            source, "volume-*.nii*", "segmentation-*.nii*", lambda path: f"liver_{case_name(path).split('-')[1]}"
        )
    dataset = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    classes = DOMAINS_3DSEG8["Task03_Liver"].classes
    if "synthetic" in dataset or tuple(dataset.get("labels", {}).values()) != classes:
        raise ValueError(f"{source} is not the Task03_Liver of the MSD, with the classes {', '.join(classes)}.")
    pairs = pair_folders(source / "imagesTr", source / "labelsTr")
    print(f"{source} has the layout of the MSD; its {len(pairs)} training pairs are taken over, and nothing else.")
    return dict(sorted(pairs.items(), key=lambda pair: (len(pair[0]), pair[0])))


def _share_grids(pairs: Pairs, spare: Path) -> Pairs:
    """Return the pairs with a copy, in ``spare``, of each segmentation that does not lie on its volume's grid."""
    volumes = [volume for volume, _ in pairs.values()]
    without = [str(path) for path in volumes if np.isnan(read_header(path, need_spacing=False).spacing).any()]
    if without:
        raise ValueError(f"No spacing is in {', '.join(without)}; write it into the header, or move the case away.")
    return {name: (volume, _put_on_grid(label, volume, spare)) for name, (volume, label) in pairs.items()}


def _put_on_grid(segmentation: Path, volume: Path, spare: Path) -> Path:
    """Return the segmentation's file, or that of a copy with the volume's header where the two differ."""
    image, label = open_scan(volume), open_scan(segmentation, need_spacing=False)
    if image.shape != label.shape or np.allclose(image.affine, label.affine, atol=1e-2):
        return segmentation  # one of another shape is for the import to refuse
    copy = spare / f"{case_name(segmentation)}.nii.gz"
    save_nifti(read_volume(segmentation, need_spacing=False)[0], image.affine, copy)
    print(f"{segmentation} and {volume.name} differ in spacing, direction or origin; those of the volume are taken.")
    return copy


def _import_known(folder: Path, pairs: Pairs, values: Mapping[int, int]) -> None:
    """Import a domain of 3DSeg-8."""
    _report(folder, import_domain(folder, DOMAINS_3DSEG8[folder.name], pairs, values))


def _report(folder: Path, written: bool) -> None:
    print(f"{folder} {'is written' if written else 'is already there'}.")
