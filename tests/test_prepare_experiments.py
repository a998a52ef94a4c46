from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data import MultiDomainDatalist
from scripts.prepare_experiments import nodules, offset, regions
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
