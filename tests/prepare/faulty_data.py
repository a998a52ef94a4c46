"""A data set of CT in Decathlon layout, whole but for the faults that are planted in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

CLASSES = ("background", "liver", "kidney_left", "kidney_right", "spare")
SHAPE, SPACING = (40, 32, 24), (3.0, 3.0, 4.0)
PLACES = {1: ((27, 16, 14), 6), 2: ((11, 10, 10), 3.5), 3: ((29, 8, 8), 3.5)}
"""Class to centre and radius in voxels; the first axis grows to the patient's right."""


def draw(number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Draw the body of a patient in air, with a liver and two kidneys, in HU."""
    generator = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*(np.arange(length) for length in SHAPE), indexing="ij"), axis=-1)
    image = np.full(SHAPE, -1000.0)
    image[np.linalg.norm((grid - np.array(SHAPE) / 2) / (18, 14, 40), axis=-1) < 1] = -80
    label = np.zeros(SHAPE, np.uint8)
    for value, (center, radius) in PLACES.items():
        moved = np.array(center) + generator.uniform(-1, 1, 3)
        label[np.linalg.norm(grid - moved, axis=-1) < radius * generator.uniform(0.9, 1.1)] = value
    image[label > 0] = 60
    return (image + generator.normal(0, 20, SHAPE)).astype(np.int16), label


def save(path: Path, volume: NDArray[Any], spacing: Sequence[float] = SPACING) -> None:
    """Write a volume whose first axis points to the patient's left, as that of most CT."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    nib.save(nib.Nifti1Image(volume[::-1], affine), path)


def write_case(
    folder: Path, name: str, image: NDArray[Any], label: NDArray[Any], spacing: Sequence[float] = SPACING
) -> None:
    """Write image and label, and list them in dataset.json."""
    save(folder / "imagesTr" / f"{name}.nii.gz", image, spacing)
    save(folder / "labelsTr" / f"{name}.nii.gz", label.astype(np.uint8), spacing)
    path = folder / "dataset.json"
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {"training": []}
    content |= {"modality": {"0": "CT"}, "labels": {str(value): name for value, name in enumerate(CLASSES)}}
    content["training"].append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    path.write_text(json.dumps(content), encoding="utf-8")


def write_good(folder: Path, cases: int = 8) -> Path:
    """Write cases without a fault."""
    for number in range(cases):
        write_case(folder, f"case_{number}", *draw(number))
    return folder


FAULTS = {
    "offset": "1024 HU off",
    "lower": "1024 HU off",
    "air": "air only",
    "thick": "odd spacing",
    "tiny": "tiny organ",
    "huge": "huge organ",
    "lacking": "missing organ",
    "empty": "empty label",
    "exchanged": "left and right exchanged",
    "mirrored": "left and right exchanged",
    "twin": "duplicate image",
    "case_3": "duplicate image",
    "borrowed": "duplicate label",
    "case_4": "duplicate label",
    "constant": "unusable image",
    "holes": "unusable image",
    "broken": "unusable image",
    "unknown": "unusable label",
    "apart": "unusable label",
    "unlabelled": "unusable label",
}
"""Case to the kind of what is wrong with it."""


def write_faulty(folder: Path) -> Path:
    """Write eight cases without a fault, of which some turn out to be twins, and those of ``FAULTS``."""
    write_good(folder)
    _write_odd_images(folder)
    _write_odd_labels(folder)
    _write_unusable(folder)
    return folder


def _write_odd_images(folder: Path) -> None:
    image, label = draw(20)
    write_case(folder, "offset", image + 1024, label)
    image, label = draw(21)
    write_case(folder, "lower", image - 1024, label)
    image, label = draw(22)
    write_case(folder, "mirrored", image[::-1], label[::-1])
    image, label = draw(23)
    write_case(folder, "thick", image[..., ::2], label[..., ::2], spacing=(3.0, 3.0, 8.0))
    write_case(folder, "air", np.random.default_rng(0).normal(-1000, 20, SHAPE).astype(np.int16), draw(24)[1])
    image, label = draw(3)
    write_case(folder, "twin", image.astype(np.float32), np.roll(label, 1, axis=2))


def _write_odd_labels(folder: Path) -> None:
    image, label = draw(30)
    write_case(folder, "exchanged", image, np.choose(label, (0, 1, 3, 2)).astype(np.uint8))
    image, label = draw(31)
    sagittal, coronal, _ = np.ogrid[:40, :32, :24]
    write_case(folder, "tiny", image, np.where((label == 1) & ((sagittal != 27) | (coronal < 15)), 0, label))
    image, label = draw(32)
    write_case(folder, "huge", image, np.where((label == 0) & (sagittal > 20) & (coronal > 14), 1, label))
    image, label = draw(33)
    write_case(folder, "lacking", image, np.where(label == 1, 0, label))
    write_case(folder, "empty", draw(34)[0], np.zeros(SHAPE, np.uint8))
    write_case(folder, "borrowed", draw(35)[0], draw(4)[1])


def _write_unusable(folder: Path) -> None:
    write_case(folder, "constant", np.full(SHAPE, 7, np.int16), draw(40)[1])
    image, label = draw(41)
    write_case(folder, "holes", np.where(label == 2, np.nan, image).astype(np.float32), label)
    image, label = draw(42)
    write_case(folder, "unknown", image, np.where(label == 1, 9, label))
    image, label = draw(43)
    write_case(folder, "apart", image, label)
    save(folder / "labelsTr" / "apart.nii.gz", label, spacing=(3.0, 3.0, 5.0))
    write_case(folder, "broken", *draw(44))
    (folder / "imagesTr" / "broken.nii.gz").write_bytes(b"no volume")
    write_case(folder, "unlabelled", *draw(45))
    (folder / "labelsTr" / "unlabelled.nii.gz").unlink()
