from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from med3d_components.data.nodules import list_nodules
from med3d_components.prepare.decathlon import LabelledScan
from scripts.samples import write_nodules
from scripts.samples.nodules import Nodule, draw_nodules, make_patient

Patient = tuple[LabelledScan, list[Nodule]]


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return [make_patient(index) for index in range(4)]


def each_nodule(patients: list[Patient]) -> list[tuple[LabelledScan, NDArray[np.bool_], Nodule]]:
    return [(scan, scan.label == i + 1, nodule) for scan, nodules in patients for i, nodule in enumerate(nodules)]


def width(scan: LabelledScan, mask: NDArray[np.bool_]) -> float:
    """Return the diameter in mm of the ball of the mask's volume."""
    return float(np.cbrt(6 / np.pi * mask.sum() * abs(np.linalg.det(scan.affine[:3, :3]))))


def test_nodules_have_the_size_they_are_said_to_have(patients: list[Patient]) -> None:
    for scan, mask, nodule in each_nodule(patients):
        assert mask.sum() > 20
        assert width(scan, mask) == pytest.approx(nodule.diameter, rel=0.25)


def test_nodules_lie_in_the_air_of_a_lung_and_calcium_shows(patients: list[Patient]) -> None:
    for scan, mask, nodule in each_nodule(patients):
        around = binary_dilation(mask, iterations=3) & ~binary_dilation(mask, iterations=1)
        assert np.median(scan.image[around]) < -700
        assert -150 < np.median(scan.image[mask]) < 600
        assert (np.percentile(scan.image[mask], 98) > 200) == nodule.calcified


def test_spiculated_nodules_reach_farther_than_round_ones_of_their_volume(patients: list[Patient]) -> None:
    reach: dict[bool, list[float]] = {True: [], False: []}
    for scan, mask, nodule in each_nodule(patients):
        places = apply_affine(scan.affine, np.argwhere(mask))
        farthest = np.linalg.norm(places - places.mean(axis=0), axis=1).max()
        reach[nodule.spiculated].append(2 * farthest / width(scan, mask))
    assert min(reach[True]) > max(reach[False])


def test_patients_differ_in_grid_and_orientation(patients: list[Patient]) -> None:
    affines = [scan.affine for scan, _ in patients]
    assert len({nib.aff2axcodes(affine) for affine in affines}) == len(affines)
    assert len({np.linalg.norm(affine[:3, :3], axis=0).round(3).tobytes() for affine in affines}) == len(affines)
    for scan, _ in patients:
        assert scan.image.dtype == np.int16
        assert all(56 <= size <= 96 for size in scan.label.shape)


def test_eight_patients_of_any_seed_show_both_classes_and_neither_size_nor_look_tells_all() -> None:
    right: dict[str, list[bool]] = {"size": [], "look": [], "both": []}
    for seed in range(100):
        nodules = [x for index in range(8) for x in draw_nodules(index, np.random.default_rng([seed, index]))]
        malignant = [bool(np.median(nodule.malignancy) > 3) for nodule in nodules]
        assert len(set(malignant)) == 2, f"seed {seed}"
        for nodule, truth in zip(nodules, malignant, strict=True):
            right["size"].append((nodule.diameter > 12) == truth)
            right["look"].append(nodule.spiculated == truth)
            right["both"].append((nodule.diameter > (10 if nodule.spiculated else 17)) == truth)
    share = {name: np.mean(values) for name, values in right.items()}
    assert 0.7 < share["size"] < 0.87
    assert 0.7 < share["look"] < 0.87
    assert share["both"] > 0.9


def test_four_readers_scatter_by_a_point_about_one_opinion() -> None:
    scores = [x.malignancy for i in range(200) for x in draw_nodules(i, np.random.default_rng(i))]
    assert all(len(score) == 4 and set(score) <= {1, 2, 3, 4, 5} for score in scores)
    spread = np.ptp(scores, axis=1)
    assert spread.max() == 2
    assert 0 in spread


def test_a_written_folder_lists_every_nodule_where_its_mask_is(tmp_path: Path) -> None:
    folder = tmp_path / "Synthetic_Nodules"
    assert write_nodules(folder, cases=2, seed=1)
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["synthetic"] == {"seed": 1, "cases": 2, "version": 2}
    assert "SYNTHETIC" in dataset["description"]
    assert (dataset["name"], dataset["licence"]) == ("Synthetic_Nodules", "CC0 1.0")
    assert {entry["patient"] for entry in dataset["nodules"]} == {"synthetic_000", "synthetic_001"}
    for entry in dataset["nodules"]:
        image, mask = (nib.load(folder / entry[key]) for key in ("image", "mask"))
        assert image.shape == mask.shape
        np.testing.assert_array_equal(image.affine, mask.affine)
        places = apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0))
        np.testing.assert_allclose(entry["center_mm"], places.mean(axis=0), atol=0.01)
        assert (folder / entry["image"]).stat().st_size < 1e6
    assert len(list_nodules(folder)) == len(dataset["nodules"]) == len(list(folder.glob("masks/*")))

    assert [path.name for path in tmp_path.iterdir()] == ["Synthetic_Nodules"]
    assert not write_nodules(folder, cases=2, seed=1)
    with pytest.raises(FileExistsError, match="already holds other data"):
        write_nodules(folder, cases=2, seed=2)
    write_nodules(tmp_path / "shorter", cases=1, seed=1)
    for path in (tmp_path / "shorter").rglob("*.nii.gz"):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path / "shorter")).read_bytes()


def test_senseless_numbers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cases is 0, but must be a positive integer"):
        write_nodules(tmp_path / "Nodules", cases=0)
    with pytest.raises(ValueError, match=r"seed is -1, but must be"):
        write_nodules(tmp_path / "Nodules", seed=-1)
    assert not list(tmp_path.iterdir())
