"""Labels of real MR, moved, turned and cut, against what other programs make of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from med3d_components.data import SegmentationDatalist
from med3d_components.transforms import LoadLabeld

REAL = os.environ.get("MED3D_REAL_DATA")
pytestmark = pytest.mark.skipif(not REAL, reason="MED3D_REAL_DATA names no folder of real volumes")


@pytest.fixture
def hippocampi(tmp_path: Path) -> Path:
    """Return a copy of six cases of the MSD."""
    source, folder = Path(str(REAL), "Task04_Hippocampus"), tmp_path / "Task04_Hippocampus"
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    content["training"] = content["training"][:6]
    for entry in content["training"]:
        for file in entry.values():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, folder / file)
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_real_labels_in_other_orientations_and_parts_stay_the_same(hippocampi: Path) -> None:
    before = SegmentationDatalist(hippocampi)
    load = LoadLabeld("label", num_classes=3)
    labels = [load(item)["label"].numpy() for item in before.training]
    for number, item in enumerate(before.training):
        label = nib.load(item["label"])
        inside = [(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(np.asarray(label.dataobj))]
        codes = ("LAS", "PIR", "SRA", "LPI", "RAS")[number % 5]
        turn = nib.orientations.ornt_transform(nib.io_orientation(label.affine), nib.orientations.axcodes2ornt(codes))
        nib.save(label.slicer[tuple(slice(*ends) for ends in inside)].as_reoriented(turn), item["label"])
        moved = sitk.Resample(
            sitk.ReadImage(item["label"]), sitk.ReadImage(item["image"]), interpolator=sitk.sitkNearestNeighbor
        )
        np.testing.assert_array_equal(load(item)["label"][0], sitk.GetArrayFromImage(moved).T)
        np.testing.assert_array_equal(load(item)["label"], labels[number])
    after = SegmentationDatalist(hippocampi)
    assert after.volumes_ml == before.volumes_ml
    assert after.training == before.training


@pytest.mark.parametrize("kind", ["moved", "turned", "identity"])
def test_a_real_label_that_lies_elsewhere_is_named(hippocampi: Path, kind: str) -> None:
    path = sorted((hippocampi / "labelsTr").iterdir())[2]
    label = nib.load(path)
    turn = from_matvec(Rotation.from_euler("z", 10, degrees=True).as_matrix())
    affine = {"moved": from_matvec(np.eye(3), [25, 0, 0]), "turned": turn, "identity": np.diag([2, 2, 2, 1])}[kind]
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), affine @ label.affine), path)
    name = path.name.removesuffix(".nii.gz")
    distance = {"moved": r"lies up to 25 mm off its image: it is moved", "turned": "it is turned by 10 degrees"}
    with pytest.raises(ValueError, match=rf"{name}: its label .*{distance.get(kind, 'its voxels have 2 x 2 x 2 mm')}"):
        SegmentationDatalist(hippocampi)
