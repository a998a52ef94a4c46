"""Prepare the domains of 3DSeg-8: make synthetic sample data, download, or import what was downloaded by hand.

Every command writes folders in the layout of the Medical Segmentation Decathlon (MSD), one per domain.
"""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.apps import DecathlonDataset
from monai.apps.utils import HashCheckError, download_url, extractall
from monai.transforms import LoadImage
from numpy.typing import NDArray

from med3d_components.data.decathlon import Scan, write_domain
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.synthetic import write_sample
from med3d_components.utils import run_commands

__all__ = ["import_domain", "lasc", "lits", "main", "msd", "sample"]

_REMEDY = "copy both anew, or move this case out of the source folder"


def sample(out: str, seed: int = 0, cases: int = 6) -> None:
    """Write small SYNTHETIC scans of all eight domains, to try the bundles without a download.

    The scans are shapes drawn by a program. What a network learns from them says nothing about medicine.
    The same command always writes the same files; run again, it goes on where it stopped or finds its work done.

    Args:
        out: folder for the eight domain folders.
        seed: of the synthetic patients.
        cases: scans per domain.
    """
    print("The sample data is synthetic: shapes drawn by a program. It says nothing about medicine.")
    for domain in DOMAINS_3DSEG8:
        folder = Path(str(out), domain)
        _report(folder, write_sample(folder, cases, seed))


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
    pairs = _pair(source, "lgemri.nrrd", "laendo.nrrd", lambda path: path.parent.name)
    import_domain(Path(str(out), "LASC2018_LeftAtrium"), pairs, {0: 0, 255: 1})


def lits(source: str, out: str) -> None:
    """Import the training set of the Liver Tumour Segmentation challenge (LiTS) 2017.

    Args:
        source: folder with volume-N.nii and segmentation-N.nii, in any sub-folders; it is only read.
        out: folder for Task03_Liver.
    """
    pairs = _pair(source, "volume-*.nii*", "segmentation-*.nii*", lambda path: f"liver_{_stem(path).split('-')[1]}")
    import_domain(Path(str(out), "Task03_Liver"), pairs, {0: 0, 1: 1, 2: 2})


def import_domain(folder: Path, pairs: Mapping[str, tuple[Path, Path]], values: Mapping[int, int]) -> None:
    """Write images and labels of any format that MONAI reads as a domain's folder.

    Args:
        folder: to write, named as in ``DOMAINS_3DSEG8``. An interrupted import goes on where it stopped.
        pairs: case name to the files of its image and its label.
        values: label value in the files to value to write.

    Raises:
        ValueError: if a file cannot be read, an image and its label do not lie on the same grid, or a label has a
            value that is not in ``values``.
        FileExistsError: if the folder holds anything else.
    """
    scans = {name: partial(_read_scan, image, label, values) for name, (image, label) in pairs.items()}
    work = zlib.crc32(repr([(name, *map(Path.resolve, files)) for name, files in pairs.items()]).encode())
    description = f"{DOMAINS_3DSEG8[folder.name].target}, imported from {DOMAINS_3DSEG8[folder.name].source}"
    written = write_domain(folder, DOMAINS_3DSEG8[folder.name], scans, description, {"imported": f"{work:08x}"})
    _report(folder, written)


def _pair(source: str, images: str, labels: str, name: Callable[[Path], str]) -> dict[str, tuple[Path, Path]]:
    """Return case name to image and label, from the files below ``source`` that match the two patterns."""
    folder = Path(str(source))
    found = [_find(folder, pattern, name) for pattern in (images, labels)]
    for here, there, pattern in ((found[0], found[1], labels), (found[1], found[0], images)):
        for case in here.keys() - there.keys():
            raise FileNotFoundError(f"{here[case]} has no partner {pattern}; add it, or move the file out of {folder}.")
    return {case: (found[0][case], found[1][case]) for case in found[0]}


def _find(folder: Path, pattern: str, name: Callable[[Path], str]) -> dict[str, Path]:
    """Return case name to file, for the files at any depth that match, sorted by number."""
    files = [path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith("._")]
    if not files:
        raise FileNotFoundError(
            f"There is no {pattern} in {folder} or below; give the folder of the unpacked download."
        )
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (len(path.name), path)):
        if name(path) in found:
            raise ValueError(f"{path} and {found[name(path)]} are both case {name(path)}; move one out of {folder}.")
        found[name(path)] = path
    return found


def _read_scan(image_path: Path, label_path: Path, values: Mapping[int, int]) -> Scan:
    (image, affine), (label, label_affine) = _read(image_path), _read(label_path)
    if image.shape != label.shape:
        raise ValueError(f"{image_path} has shape {image.shape}, but {label_path} has {label.shape}; {_REMEDY}.")
    if not np.allclose(affine, label_affine, atol=1e-2):
        raise ValueError(f"{image_path} and {label_path} differ in spacing, direction or origin; {_REMEDY}.")
    mapped = np.full(label.shape, 255, np.uint8)
    for value, target in values.items():
        mapped[label == value] = target
    if mapped.max() == 255:
        unknown = np.unique(label[mapped == 255])[:5].tolist()
        raise ValueError(f"{label_path} has the values {unknown}, but should have {sorted(values)}; {_REMEDY}.")
    return Scan(image, mapped, affine)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return a volume in a type that NIfTI has, and its voxel to RAS mm matrix."""
    try:
        volume = LoadImage(reader="ITKReader" if path.suffix == ".nrrd" else "NibabelReader", dtype=None)(path)
    except Exception as error:  # the readers raise whatever their file format's library does
        reason = str(error).strip().splitlines()[-1:]
        raise ValueError(f"{path} cannot be read ({' '.join(reason)}); copy it anew.") from error
    array = volume.numpy()
    small = array.dtype in (np.uint8, np.int16, np.uint16)
    return array if small else array.astype(np.float32), volume.affine.numpy()


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


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _report(folder: Path, written: bool) -> None:
    print(f"{folder} {'is written' if written else 'is already there'}.")


def main() -> None:
    """Run the command line."""
    run_commands({"sample": sample, "msd": msd, "lasc": lasc, "lits": lits})


if __name__ == "__main__":
    main()
