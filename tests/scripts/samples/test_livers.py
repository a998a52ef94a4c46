from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from skimage.measure import label as label_components

from med3d_components.prepare.decathlon import LabelledScan
from scripts.samples import make_scan
from scripts.samples.recipes import RECIPES

DOMAIN = "Synthetic_Livers"
WHOLE, CUT_ABOVE, CUT_BELOW, PELVIS = (0, 1, 2, 3), 6, 8, 11


@pytest.fixture(scope="module")
def scans() -> dict[int, LabelledScan]:
    return {index: make_scan(DOMAIN, index) for index in (*WHOLE, CUT_ABOVE, CUT_BELOW, PELVIS)}


@pytest.fixture(scope="module")
def livers(scans: dict[int, LabelledScan]) -> dict[int, LabelledScan]:
    """Return the scans that show a liver."""
    return {index: scan for index, scan in scans.items() if index != PELVIS}


def upright(scan: LabelledScan) -> NDArray[np.bool_]:
    """Return the mask of liver and tumour with axes to the right, the front and up."""
    mask = nib.as_closest_canonical(nib.Nifti1Image(scan.label, scan.affine))
    return np.asarray(mask.dataobj) > 0


def largest_in_window(scan: LabelledScan) -> NDArray[np.bool_]:
    """Return the largest component of what has the HU of this very liver."""
    liver = scan.image[scan.label == 1]
    components = label_components(np.abs(scan.image - liver.mean()) < 2 * liver.std())
    return components == np.bincount(components[components > 0]).argmax()


def test_a_window_of_hu_finds_the_liver_in_one_piece_with_much_else(livers: dict[int, LabelledScan]) -> None:
    for index, scan in livers.items():
        truth, found = scan.label > 0, largest_in_window(scan)
        dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
        assert 0.1 < dice < 0.55, f"case {index}"
        assert (truth & found).sum() > 0.85 * truth.sum(), "it fails by what it takes in, not by what it misses"


def test_the_liver_lies_at_the_right_and_has_its_size_and_hu(livers: dict[int, LabelledScan]) -> None:
    for index, scan in livers.items():
        truth = scan.label > 0
        assert 30 < apply_affine(scan.affine, np.argwhere(truth))[:, 0].mean() < 90
        assert 100 < np.median(scan.image[scan.label == 1]) < 130
        litres = truth.sum() * abs(np.linalg.det(scan.affine[:3, :3])) / 1e6
        assert 1.1 < litres < 2.2 if index in WHOLE else 0.4 < litres < 1.5


def test_the_first_scans_show_the_whole_liver_and_later_ones_a_part(livers: dict[int, LabelledScan]) -> None:
    ends = {index: tuple(upright(scan).any(axis=(0, 1))[[0, -1]]) for index, scan in livers.items()}
    assert ends == {**dict.fromkeys(WHOLE, (False, False)), CUT_ABOVE: (False, True), CUT_BELOW: (True, False)}


def test_one_of_16_scans_has_no_liver(scans: dict[int, LabelledScan]) -> None:
    assert not scans[PELVIS].label.any()
    assert (scans[PELVIS].image > 150).any()
    shifts = RECIPES[DOMAIN].shifts
    assert len(shifts) == 16
    assert shifts[:6] == (0,) * 6
    assert [shift for shift in shifts if shift < -150] == [shifts[PELVIS]]


def test_some_livers_have_tumours_darker_than_they_are(livers: dict[int, LabelledScan]) -> None:
    sick = {index: scan for index, scan in livers.items() if (scan.label == 2).any()}
    assert 0 in sick
    assert len(sick) < len(livers)
    for scan in sick.values():
        liver, tumour = (np.median(scan.image[scan.label == label]) for label in (1, 2))
        assert 25 < liver - tumour < 70
        assert (scan.label == 2).sum() > 30


def test_the_17th_scan_shows_another_patients_liver(scans: dict[int, LabelledScan]) -> None:
    scan = make_scan(DOMAIN, 16)
    assert scan.label.any()
    assert scan.label.sum() != scans[0].label.sum()
