from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data import MultiDomainDatalist
from scripts.experiments.commands import copies, nodules, offset, regions
from tests.conftest import MakeDomain


def world_center(path: Path) -> np.ndarray:
    label = nib.load(path)
    return nib.affines.apply_affine(label.affine, np.argwhere(label.get_fdata()).mean(axis=0))


def test_offset_volumes_keep_their_world_and_lie_at_places_of_their_own(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    source = make_domain(tmp_path / "in" / "a", cases=6)
    offset(str(source), str(tmp_path / "out"), size=(40, 44, 36), max_offset=6)
    centers = []
    for case in range(6):
        name = f"labelsTr/case_{case}.nii.gz"
        written = tmp_path / "out" / "a" / name
        assert nib.load(written).shape == (40, 44, 36)
        assert np.allclose(world_center(written), world_center(source / name))
        centers.append(nib.load(written).affine[:3, 3])
    assert len({tuple(center) for center in centers}) == 6
    assert np.abs(np.array(centers) + 8).max() <= 6
    with pytest.raises(ValueError, match=r"has shape \(24, 28, 20\), larger than \(20, 20, 20\)"):
        offset(str(source), str(tmp_path / "small"), size=(20, 20, 20))


def test_nodule_cubes_become_a_domain(tmp_path: Path, make_domain: MakeDomain) -> None:
    source = make_domain(tmp_path / "in")
    entries = [{"image": f"imagesTr/case_{i}.nii.gz", "mask": f"labelsTr/case_{i}.nii.gz"} for i in range(3)]
    (source / "dataset.json").write_text(json.dumps({"nodules": entries}))
    nodules(str(source), str(tmp_path / "out"))
    datalist = MultiDomainDatalist(tmp_path / "out")
    assert datalist.classes == {"LIDC_NoduleCubes": ["background", "nodule"]}
    assert len(datalist.training) + len(datalist.validation) == 3


def test_regions_tile_the_scan(tmp_path: Path, make_domain: MakeDomain) -> None:
    source = make_domain(tmp_path / "in")
    image, label = (str(source / kind / "case_0.nii.gz") for kind in ("imagesTr", "labelsTr"))
    regions(image, label, str(tmp_path / "out"), classes=("background", "box"), parts=(2, 1, 3))
    labels = sorted((tmp_path / "out" / "ExampleCT_Regions" / "labelsTr").iterdir())
    assert len(labels) == 6
    assert sum(nib.load(path).get_fdata().sum() for path in labels) == nib.load(label).get_fdata().sum()
    assert np.allclose(nib.load(labels[-1]).affine[:3, 3], (12, 0, 13))
    regions(image, label, str(tmp_path / "slices"), classes=("background", "box"), parts=(1, 1, 20))
    assert len(list((tmp_path / "slices" / "ExampleCT_Regions" / "labelsTr").iterdir())) == 10  # those of the box


def test_copies_are_rotated_resampled_and_cropped_with_their_labels(tmp_path: Path, make_domain: MakeDomain) -> None:
    source = make_domain(tmp_path / "in")
    image, label = (str(source / kind / "case_0.nii.gz") for kind in ("imagesTr", "labelsTr"))
    copies(image, label, str(tmp_path / "out"), classes=("background", "box"), only="box", count=1)
    folder = tmp_path / "out" / "ExampleCT_Copies"
    scans = {path.name.partition(".")[0]: nib.load(path) for path in sorted((folder / "imagesTr").iterdir())}
    masks = {name: nib.load(folder / "labelsTr" / f"{name}.nii.gz") for name in scans}
    assert list(scans) == ["cropped_1", "original", "resampled_1", "rotated_1"]
    volumes = {name: mask.get_fdata().sum() * np.prod(mask.header.get_zooms()) for name, mask in masks.items()}
    assert np.array_equal(masks["original"].get_fdata(), nib.load(label).get_fdata())
    for name in ("resampled_1", "rotated_1"):
        assert volumes[name] == pytest.approx(volumes["original"], rel=0.2)
        assert scans[name].shape == masks[name].shape
    center = world_center(folder / "labelsTr" / "original.nii.gz")
    assert np.allclose(world_center(folder / "labelsTr" / "resampled_1.nii.gz"), center, atol=0.5)
    assert np.allclose(world_center(folder / "labelsTr" / "rotated_1.nii.gz"), center, atol=4)
    assert not np.array_equal(masks["rotated_1"].get_fdata(), masks["original"].get_fdata())
    assert not np.allclose(scans["resampled_1"].header.get_zooms(), scans["original"].header.get_zooms())
    assert scans["cropped_1"].shape[:2] == scans["original"].shape[:2]
    assert scans["cropped_1"].shape[2] < scans["original"].shape[2]
