"""Synthetic patients with lung nodules that four readers have scored, in the layout of the LIDC import."""

from __future__ import annotations

import functools
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from tqdm import tqdm

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.prepare.decathlon import LabelledScan, save_nifti
from med3d_components.utils import write_json
from scripts.samples.chest import paint_chest
from scripts.samples.ct import AIR, MUSCLE
from scripts.samples.recipes import Recipe
from scripts.samples.scans import DESCRIPTION, check_series, draw_scan
from scripts.samples.shapes import Shape, burr, waves
from scripts.samples.sketch import Sketch

__all__ = ["Nodule", "draw_nodules", "make_patient", "write_nodules"]

KINDS = ((True, 13, 20), (False, 5, 12), (True, 5, 14), (False, 9, 20))
"""Spiculated or not, smallest and largest diameter in mm: the clear cases, and those that size alone tells wrongly."""

CALCIUM = 450


@dataclass(frozen=True)
class Nodule:
    """What a nodule looks like, and what four readers say of it.

    Attributes:
        diameter: in mm, about; without the spikes.
        spiculated: with spikes and dents, or smooth and round.
        calcified: with a core of calcium.
        malignancy: a score from 1 to 5 by each reader.
    """

    diameter: float
    spiculated: bool
    calcified: bool
    malignancy: tuple[int, ...]


def write_nodules(folder: str | os.PathLike[str], cases: int = 16, seed: int = 0) -> bool:
    """Write synthetic patients with one or two lung nodules each.

    Size and look both tell of the malignancy: one of them alone is often, but not always right. The folder appears
    when it is complete::

        Synthetic_Nodules/
          dataset.json                           {"nodules": [{"image", "center_mm", "malignancy", "mask", "patient"}]}
          images/synthetic_000.nii.gz
          masks/synthetic_000_nodule_0.nii.gz

    Args:
        folder: to write.
        cases: number of patients.
        seed: of the patients. The first ones of a longer series equal those of a shorter one.

    Returns:
        Whether anything was written: False if the same sample is already there.

    Raises:
        ValueError: if the number of cases or the seed is not one.
        FileExistsError: if the folder holds anything else.
    """
    folder = Path(folder)
    provenance = check_series(cases, seed)
    dataset = folder / "dataset.json"
    if dataset.is_file() and provenance.items() <= read_dataset_json(dataset).items():
        return False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} already holds other data; move it away or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as parent:
        staging = Path(parent, folder.name)
        entries = []
        for index in tqdm(range(cases), desc=folder.name, unit="case"):
            entries += _write_patient(staging, f"synthetic_{index:03d}", *make_patient(index, seed))
        facts = {"name": folder.name, "description": DESCRIPTION, "licence": "CC0 1.0"}
        write_json(staging / "dataset.json", {**facts, "nodules": entries, **provenance})
        staging.replace(folder)
    return True


def make_patient(index: int, seed: int = 0) -> tuple[LabelledScan, list[Nodule]]:
    """Make a synthetic CT of a part of one lung, and its nodules; their labels count from 1.

    Args:
        index: of the patient; each has another anatomy, spacing and orientation.
        seed: of the series of patients.
    """
    rng = np.random.default_rng([seed, zlib.crc32(b"Synthetic_Nodules"), index])
    nodules = draw_nodules(index, rng)
    center = (float(rng.choice((-1, 1))) * 88, -4.0, 4.0)
    draw = functools.partial(_paint_patient, nodules=nodules, center=center)
    recipe = Recipe(draw, 150, (92, 76, 62), (1.2, 1.2, 1.3), center, background=(AIR,), noise=18)
    return draw_scan(recipe, "CT", index, rng), nodules


def draw_nodules(index: int, rng: np.random.Generator) -> list[Nodule]:
    """Draw the look and the scores of a patient's one or two nodules; the kinds take turns from patient to patient."""
    nodules = []
    for number in range(int(rng.integers(1, 3))):
        spiculated, smallest, largest = KINDS[(index + 2 * number) % len(KINDS)]
        diameter = float(rng.uniform(smallest, largest))
        calcified = bool(not spiculated and rng.random() < 0.4)
        suspicion = 3 + (1 if spiculated else -1) - calcified + (diameter - 12) / 3.5
        readers = np.rint(suspicion) + rng.choice((-1, 0, 1), size=4, p=(0.2, 0.6, 0.2))
        scores = tuple(int(score) for score in np.clip(readers, 1, 5))
        nodules.append(Nodule(diameter, spiculated, calcified, scores))
    return nodules


def _paint_patient(sketch: Sketch, nodules: Sequence[Nodule], center: tuple[float, float, float]) -> None:
    """Paint the chest and the nodules, apart from one another, in the lung that ``center`` lies in."""
    lung = paint_chest(sketch)[0 if center[0] > 0 else 1]
    places: list[NDArray[np.float32]] = []
    for label, nodule in enumerate(nodules, start=1):
        candidates = (center + sketch.rng.uniform((-28, -24, -18), (28, 24, 18), (500, 3))).astype(np.float32)
        room = -lung.whole.distance(candidates.T) - 0.8 * nodule.diameter
        room = np.minimum(room, lung.vessels.distance(candidates.T) - 0.5 * nodule.diameter)
        for place in places:
            room = np.minimum(room, np.linalg.norm(candidates - place, axis=1) - 32)
        places.append(candidates[np.argmax(np.minimum(room, 0))])  # the first with room enough
        shape = _shape(sketch, nodule, places[-1]).near(places[-1], 1.5 * nodule.diameter)
        sketch.paint(shape, MUSCLE - 20, label)
        if nodule.calcified:
            sketch.paint(shape.grown(-0.2 * nodule.diameter), CALCIUM, label)


def _shape(sketch: Sketch, nodule: Nodule, place: NDArray[np.float32]) -> Shape:
    rng, radius = sketch.rng, nodule.diameter / 2
    if not nodule.spiculated:
        return sketch.ellipsoid(place, (radius, radius, radius))
    spikes = rng.normal(size=(14, 3))
    spikes *= radius * rng.uniform(0.3, 0.9, (14, 1)) / np.linalg.norm(spikes, axis=1, keepdims=True)
    return burr(place, 0.85 * radius, spikes).wrinkled(waves(rng, wavelength=radius, channels=1), 0.1 * radius)


def _write_patient(folder: Path, name: str, scan: LabelledScan, nodules: Sequence[Nodule]) -> list[dict[str, Any]]:
    """Write the image and a mask per nodule; return the entries for ``dataset.json``."""
    image = f"images/{name}.nii.gz"
    save_nifti(scan.image, scan.affine, folder / image)
    entries = []
    for number, nodule in enumerate(nodules):
        mask = scan.label == number + 1
        path = f"masks/{name}_nodule_{number}.nii.gz"
        save_nifti(mask.astype(np.uint8), scan.affine, folder / path)
        center = apply_affine(scan.affine, np.argwhere(mask).mean(axis=0)).round(2).tolist()
        entries.append(
            {"image": image, "center_mm": center, "malignancy": list(nodule.malignancy), "mask": path, "patient": name}
        )
    return entries
