from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.metrics import AverageLabelDice
from med3d_components.metrics.cases import UNNAMED
from med3d_components.prepare.decathlon import LabelledScan
from scripts.samples import make_scan, write_sample
from scripts.samples.recipes import RECIPES, SYNTHETIC_DOMAINS
from scripts.samples.scans import voxel_centers
from scripts.samples.shapes import ellipsoid
from scripts.samples.sketch import Sketch

DOMAINS = list(SYNTHETIC_DOMAINS)
CASES = 4
WHOLE = [domain for domain in DOMAINS if domain != "Synthetic_Livers"]  # of the livers some have no tumour
THIN = {("Task08_HepaticVessel", 1)}


@pytest.fixture(scope="module")
def scans() -> dict[str, list[LabelledScan]]:
    return {domain: [make_scan(domain, index) for index in range(CASES)] for domain in DOMAINS}


def points(*places: tuple[float, float, float]) -> np.ndarray:
    return np.array(places, np.float32).T


def test_later_paint_covers_earlier_paint_in_image_and_label() -> None:
    sketch = Sketch(np.random.default_rng(0), size=1, background=(-5, 5))
    sketch.paint(ellipsoid((0, 0, 0), (9, 9, 9)), (100, 200), label=1)
    sketch.paint(ellipsoid((0, 0, 0), (4, 4, 4)), 50)
    image, label = sketch.render(points((0, 0, 0), (7, 0, 0), (30, 0, 0)), edge=1)
    assert label.tolist() == [0, 1, 0]
    np.testing.assert_allclose(image, [[50, 100, -5], [50, 200, 5]], rtol=0.05)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_label_of_a_place_does_not_depend_on_the_grid(domain: str) -> None:
    def look(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        recipe = RECIPES[domain]
        sketch = Sketch(np.random.default_rng(3), recipe.size, recipe.background)
        recipe.draw(sketch)
        return sketch.render(voxel_centers(shape, affine), edge=1)[1].reshape(shape)

    spacing, center = np.array(RECIPES[domain].spacing), np.array(RECIPES[domain].center)
    plain = np.diag([*spacing, 1.0])
    plain[:3, 3] = center - spacing * 20
    flipped = plain[:, [2, 0, 1, 3]].copy()  # axes in another order, the first of them backwards
    flipped[:, 3] += 40 * flipped[:, 0]
    flipped[:, 0] *= -1
    here, there = look(plain, (41, 41, 41)), look(flipped, (41, 41, 41))
    np.testing.assert_array_equal(here, there[::-1].transpose(1, 2, 0))
    assert here.any()


@pytest.mark.parametrize("domain", WHOLE)
def test_every_scan_shows_every_class_large_enough_for_a_stride_of_8(
    domain: str, scans: dict[str, list[LabelledScan]]
) -> None:
    spacing = np.median([np.linalg.norm(scan.affine[:3, :3], axis=0).mean() for scan in scans[domain]])
    for scan in scans[domain]:
        assert set(np.unique(scan.label)) == set(range(len(SYNTHETIC_DOMAINS[domain].classes)))
        for label in range(1, scan.label.max() + 1):
            steps = np.linalg.norm(scan.affine[:3, :3], axis=0)
            radius = distance_transform_edt(scan.label == label, sampling=steps).max() / spacing
            assert radius >= (1 if (domain, label) in THIN else 3), f"label {label}"


@pytest.mark.parametrize("domain", DOMAINS)
def test_scans_vary_in_grid_anatomy_and_orientation(domain: str, scans: dict[str, list[LabelledScan]]) -> None:
    affines = [scan.affine for scan in scans[domain]]
    spacings = np.array([np.linalg.norm(affine[:3, :3], axis=0) for affine in affines])
    assert len(np.unique(spacings.round(3), axis=0)) == CASES
    assert (np.ptp(spacings, axis=1) > 0.02).all(), "every scan is anisotropic"
    assert len({nib.aff2axcodes(affine) for affine in affines}) == CASES
    oblique = [np.count_nonzero(affine[:3, :3].round(6)) > 3 for affine in affines]
    assert any(oblique)
    assert not all(oblique)
    volumes = [np.sum(scan.label > 0) * abs(np.linalg.det(scan.affine[:3, :3])) for scan in scans[domain]]
    assert len({round(volume) for volume in volumes}) == CASES


@pytest.mark.parametrize("domain", DOMAINS)
def test_scans_have_the_size_and_scale_of_their_modality(domain: str, scans: dict[str, list[LabelledScan]]) -> None:
    facts = SYNTHETIC_DOMAINS[domain]
    for scan in scans[domain]:
        assert scan.image.dtype == np.int16
        assert scan.image.shape == scan.label.shape + ((len(facts.channels),) if len(facts.channels) > 1 else ())
        assert all(37 <= size <= 75 for size in scan.label.shape)
        low, middle, high = np.percentile(scan.image, [0, 60, 100])
        if facts.modality == "CT":
            assert -1024 <= low < middle < 200 < high < 700
        else:
            assert 0 <= low < middle < high < 8000


def test_mr_scans_have_scales_of_their_own(scans: dict[str, list[LabelledScan]]) -> None:
    highest = [np.percentile(scan.image, 99) for scan in scans["Task04_Hippocampus"]]
    assert max(highest) > 1.2 * min(highest)


def test_a_seed_makes_one_scan_and_another_seed_another() -> None:
    one, again, other = (make_scan("Task09_Spleen", 0, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.image, again.image)
    assert one.image.shape != other.image.shape or (one.image != other.image).any()


def test_domains_of_one_seed_are_different_patients() -> None:
    assert not np.array_equal(make_scan("Task09_Spleen", 0).affine, make_scan("Task03_Liver", 0).affine)


def test_a_sample_is_byte_identical_for_a_seed_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    folders = [tmp_path / name / "Task04_Hippocampus" for name in ("one", "two")]
    for folder, cases in zip(folders, (2, 3), strict=True):
        assert write_sample(folder, cases=cases, seed=5)
    for path in folders[0].rglob("*.nii.gz"):
        assert path.read_bytes() == (folders[1] / path.relative_to(folders[0])).read_bytes()
    dataset = json.loads((folders[0] / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["synthetic"] == {"seed": 5, "cases": 2, "version": 2}
    assert "SYNTHETIC" in dataset["description"]
    assert "nothing about medicine" in dataset["description"]
    assert not write_sample(folders[0], cases=2, seed=5)
    with pytest.raises(FileExistsError, match="already holds other data"):
        write_sample(folders[0], cases=2, seed=6)


@pytest.mark.parametrize("cases", [0, -1, 2.5, "6"])
def test_a_senseless_number_of_cases_is_refused(tmp_path: Path, cases: object) -> None:
    with pytest.raises(ValueError, match=r"cases is .*, but must be a positive integer"):
        write_sample(tmp_path / "Task09_Spleen", cases=cases)


@pytest.mark.parametrize("seed", [-1, "x"])
def test_a_senseless_seed_is_refused(tmp_path: Path, seed: object) -> None:
    with pytest.raises(ValueError, match=r"seed is .*, but must be"):
        write_sample(tmp_path / "Task09_Spleen", seed=seed)


def test_an_unknown_domain_is_refused_with_the_list_of_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no synthetic domain 'Task09'; there are .*Task09_Spleen"):
        write_sample(tmp_path / "Task09")
    with pytest.raises(ValueError, match="no synthetic domain"):
        make_scan("Task09", 0)


def test_recipes_exist_for_the_domains_of_3dseg8_and_for_lungs_and_livers() -> None:
    assert set(RECIPES) == set(SYNTHETIC_DOMAINS) == {*DOMAINS_3DSEG8, "Synthetic_Lungs", "Synthetic_Livers"}


@pytest.mark.parametrize(
    ("domain", "shape", "image", "label"),
    [
        ("Task04_Hippocampus", (37, 56, 42), 28724170, 7560),
        ("Task09_Spleen", (71, 52, 46), -46419263, 1551),
        ("Synthetic_Lungs", (70, 56, 60), -120606459, 35774),
        ("Synthetic_Livers", (75, 62, 53), -122879256, 14293),
    ],
)
def test_the_scans_of_a_seed_stay_the_same_as_long_as_the_version_does(
    domain: str, shape: tuple[int, ...], image: int, label: int
) -> None:
    scan = make_scan(domain, index=0, seed=0)
    assert scan.image.shape == shape
    assert scan.image.sum() == pytest.approx(image, rel=2e-5)  # not every processor rounds alike
    assert scan.label.sum() == pytest.approx(label, abs=2)


def test_the_lungs_lie_on_their_sides_and_hold_litres_of_air(scans: dict[str, list[LabelledScan]]) -> None:
    for scan in scans["Synthetic_Lungs"]:
        litre = abs(np.linalg.det(scan.affine[:3, :3])) / 1e6
        for label, side in ((1, 1), (2, -1)):
            lung = scan.label == label
            x = nib.affines.apply_affine(scan.affine, np.argwhere(lung))[:, 0]
            assert 35 < side * x.mean() < 110
            assert 0.6 < lung.sum() * litre < 4
            assert -900 < np.median(scan.image[lung]) < -800


def test_a_tall_patient_is_a_short_one_seen_from_nearer() -> None:
    sketches = [Sketch(np.random.default_rng(0), size=20, background=(0,)) for _ in range(2)]
    for sketch in sketches:
        sketch.paint(ellipsoid((0, 0, 10), (12, 8, 9)), 100, label=1)
    sketches[1].stature = 1.5
    near = np.random.default_rng(1).uniform(-20, 20, (3, 500)).astype(np.float32)
    short, tall = sketches[0].render(near, edge=2), sketches[1].render(1.5 * near, edge=3)
    np.testing.assert_allclose(short[0], tall[0], atol=0.01)
    assert np.mean(short[1] != tall[1]) < 0.01
    assert short[1].any()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_lungs_lie_and_measure_differently_enough_that_their_average_label_is_a_poor_guess(seed: int) -> None:
    scans = [make_scan("Synthetic_Lungs", index, seed) for index in range(12)]
    volumes = [nib.as_closest_canonical(nib.Nifti1Image(scan.label, scan.affine)) for scan in scans]
    items = [{"label": torch.as_tensor(np.array(volume.dataobj))[None]} for volume in volumes]
    baseline = AverageLabelDice(SYNTHETIC_DOMAINS["Synthetic_Lungs"].classes, items[:8])
    baseline.fit()
    for case, item in enumerate(items[8:]):
        baseline.update(UNNAMED, str(case), baseline.predict(UNNAMED, item["label"]), item["label"])
    assert 0.1 < baseline.compute() < 0.6
