"""The code of ``scripts/prepare_experiments.py``: domains made of a few real volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import rescale_affine
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.domains import DomainFacts
from med3d_components.data.labelled import read_domain
from med3d_components.prepare.decathlon import LabelledScan, write_domain

__all__ = ["copies", "nodules", "offset", "regions"]

LIDC = DomainFacts(
    modality="CT",
    target="lung nodule",
    classes=("background", "nodule"),
    source="LIDC-IDRI, The Cancer Imaging Archive",
    licence="CC-BY 3.0",
)


def offset(source: str, out: str, size: Sequence[int] = (64, 80, 64), max_offset: int = 16, seed: int = 0) -> None:
    """Put each volume of a domain at a random place in a larger, otherwise empty one.

    Crops around their target tell where it is without a look at the image; after this they do not.

    Args:
        source: folder of a domain.
        out: folder for a domain of the same name.
        size: of the new volumes in voxels; no old one may be larger.
        max_offset: greatest distance in voxels, along each axis, between the centres of the old and the new volume.
        seed: of the places.
    """
    folder = Path(source)
    domain = read_domain(folder)
    cases = domain.cases
    for case in cases:
        if any(np.greater(nib.load(case.image).shape, size)):
            raise ValueError(f"{case.image} has shape {nib.load(case.image).shape}, larger than {tuple(size)}.")
    generator = np.random.default_rng(seed)
    places = {case.name: generator.uniform(-1, 1, 3) for case in cases}
    scans = {case.name: partial(_place, case.image, case.label, size, max_offset, places[case.name]) for case in cases}
    facts = DomainFacts("as the source", folder.name, domain.classes, source=folder.name, licence="as the source")
    _write(Path(out, folder.name), facts, scans, f"offset {size} {max_offset} {seed}")


def nodules(source: str, out: str) -> None:
    """Write cubes around lung nodules, with masks, as a domain.

    Args:
        source: folder with a dataset.json that lists "nodules", each with "image" and "mask".
        out: folder for LIDC_NoduleCubes.
    """
    folder = Path(source)
    entries = read_dataset_json(folder / "dataset.json")["nodules"]
    pairs = {Path(entry["image"]).name.partition(".")[0]: entry for entry in entries}
    scans = {name: partial(_read, folder / pair["image"], folder / pair["mask"]) for name, pair in pairs.items()}
    _write(Path(out, "LIDC_NoduleCubes"), LIDC, scans, "nodules")


def regions(
    image: str, label: str, out: str, classes: Sequence[str], parts: Sequence[int] = (2, 2, 3), only: str | None = None
) -> None:
    """Cut one labelled CT into regions that do not overlap, and write those with an organ in them as a domain.

    All regions are of one patient, so a score on some of them says how well that patient was learnt.

    Args:
        image: the scan.
        label: its label.
        out: folder for ExampleCT_Regions.
        classes: names of the label's values, background first.
        parts: number of regions along each axis.
        only: name of the one class to keep; the others become background.
    """
    kept = tuple(classes) if only is None else (classes[0], only)
    facts = DomainFacts("CT", "organs", kept, source=Path(image).name, licence="see the scan's source")
    value = None if only is None else list(classes).index(only)
    scans = {
        "region_" + "".join(map(str, index)): partial(_cut, Path(image), Path(label), index, parts, value)
        for index in product(*map(range, parts))
        if _cut(Path(image), Path(label), index, parts, value).label.mean() > 0.001
    }
    _write(Path(out, "ExampleCT_Regions"), facts, scans, f"regions {parts} {kept}")


def copies(image: str, label: str, out: str, classes: Sequence[str], only: str, count: int = 3, seed: int = 0) -> None:
    """Write one labelled CT as it is, and rotated, resampled and cropped copies of it, as a domain.

    A rotated copy is turned by up to 15 degrees about each axis; a resampled one has voxels 0.7 to 1.4 times as long;
    a cropped one lacks up to a fifth of the scan at its lower and its upper end. All are of one patient, so a score
    says how well that patient was learnt.

    Args:
        image: the scan.
        label: its label.
        out: folder for ExampleCT_Copies.
        classes: names of the label's values, background first.
        only: name of the one class to keep; the others become background.
        count: copies of each kind.
        seed: of the copies.
    """
    facts = DomainFacts("CT", only, (classes[0], only), source=Path(image).name, licence="see the scan's source")
    value = list(classes).index(only)
    scans: dict[str, Callable[[], LabelledScan]] = {"original": partial(_read, Path(image), Path(label), value)}
    for index in range(count):
        for number, (kind, change) in enumerate({"rotated": _rotate, "resampled": _resample, "cropped": _crop}.items()):
            draw = np.random.default_rng([seed, index, number]).uniform(size=3)
            scans[f"{kind}_{index + 1}"] = partial(_change, change, draw, Path(image), Path(label), value)
    _write(Path(out, "ExampleCT_Copies"), facts, scans, f"copies {only} {count} {seed}")


def _write(folder: Path, facts: DomainFacts, scans: Mapping[str, Callable[[], LabelledScan]], work: str) -> None:
    written = write_domain(folder, facts, scans, f"{facts.target}, for an experiment", {"experiment": work})
    print(f"{folder} {'is written' if written else 'is already there'}.")


def _read(image: Path, label: Path, value: int | None = None) -> LabelledScan:
    """Read a scan and its label, or of the label one value alone."""
    volume = nib.load(image)
    labels = np.asarray(nib.load(label).dataobj)
    return LabelledScan(
        np.asarray(volume.dataobj).astype(np.float32), labels if value is None else labels == value, volume.affine
    )


def _place(image: Path, label: Path, size: Sequence[int], max_offset: int, place: np.ndarray) -> LabelledScan:
    scan = _read(image, label)
    slack = (np.array(size) - scan.label.shape) / 2
    start = np.rint(slack + place * np.minimum(max_offset, slack)).astype(int)
    pad = [(low, length - low - n) for low, length, n in zip(start, size, scan.label.shape, strict=True)]
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ start
    return LabelledScan(np.pad(scan.image, pad, constant_values=scan.image.min()), np.pad(scan.label, pad), affine)


def _cut(image: Path, label: Path, index: Sequence[int], parts: Sequence[int], value: int | None) -> LabelledScan:
    scan = _read(image, label, value)
    edges = [np.linspace(0, length, n + 1).astype(int) for length, n in zip(scan.label.shape, parts, strict=True)]
    start = [edge[i] for edge, i in zip(edges, index, strict=True)]
    region = tuple(slice(edge[i], edge[i + 1]) for edge, i in zip(edges, index, strict=True))
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    return LabelledScan(scan.image[region], scan.label[region], affine)


Change = Callable[[nib.Nifti1Image, np.ndarray, int], nib.Nifti1Image]


def _change(change: Change, draw: np.ndarray, image: Path, label: Path, value: int) -> LabelledScan:
    """Return a changed copy of a scan; ``draw`` is three numbers in 0 to 1."""
    scan = _read(image, label, value)
    volume = change(nib.Nifti1Image(scan.image, scan.affine), draw, 1)
    mask = change(nib.Nifti1Image(scan.label.astype(np.uint8), scan.affine), draw, 0)
    return LabelledScan(volume.get_fdata(dtype=np.float32), np.asarray(mask.dataobj), volume.affine)


def _rotate(volume: nib.Nifti1Image, draw: np.ndarray, order: int) -> nib.Nifti1Image:
    """Turn the patient, not the grid, about the middle of the scan."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", 30 * draw - 15, degrees=True).as_matrix()
    middle = volume.affine[:3] @ [*(np.array(volume.shape) - 1) / 2, 1]
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    turned = resample_from_to(volume, (volume.shape, turn @ volume.affine), order, cval=_lowest(volume))
    return nib.Nifti1Image(turned.dataobj, volume.affine)


def _resample(volume: nib.Nifti1Image, draw: np.ndarray, order: int) -> nib.Nifti1Image:
    spacing = np.array(volume.header.get_zooms()) * (0.7 + 0.7 * draw)
    shape = np.ceil(volume.shape * np.array(volume.header.get_zooms()) / spacing).astype(int)
    grid = (tuple(shape.tolist()), rescale_affine(volume.affine, volume.shape, spacing, shape))
    return resample_from_to(volume, grid, order, cval=_lowest(volume))


def _crop(volume: nib.Nifti1Image, draw: np.ndarray, order: int) -> nib.Nifti1Image:
    length = volume.shape[2]
    return volume.slicer[:, :, int(0.2 * draw[0] * length) : length - int(0.2 * draw[1] * length)]


def _lowest(volume: nib.Nifti1Image) -> float:
    return float(np.min(volume.dataobj))
