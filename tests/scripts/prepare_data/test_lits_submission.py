"""Masks that ``segment`` wrote become what the LiTS challenge takes, or one line says why not."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  as it calls itself

from med3d_components.masks import write_mask
from tests.scripts.prepare_data.conftest import contents, last_line

AFFINES = {0: np.diag([-0.8, -0.7, 2.5, 1]), 1: np.diag([0.7, 0.7, 5, 1])[[1, 0, 2, 3]], 11: np.eye(4)}
SHAPE = (9, 8, 6)


def label(number):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:7, 2:6, 1:5] = 1
    mask[3, 3, 1 + number % 4] = 2
    return mask


@pytest.fixture
def folders(tmp_path):
    """Write volumes of a test set, and the masks of an inference on them in folders like theirs."""
    volumes, masks = tmp_path / "volumes", tmp_path / "masks"
    for number, affine in AFFINES.items():
        folder = "batch 1" if number < 10 else ""
        (volumes / folder).mkdir(parents=True, exist_ok=True)
        scan = volumes / folder / f"test-volume-{number}.nii"
        image = nib.Nifti1Image(np.full(SHAPE, -900 + number, np.int16), affine)
        image.set_qform(affine, 2)
        nib.save(image, scan)
        write_mask(label(number), scan, masks / folder / f"test-volume-{number}_seg", ["background", "liver", "lesion"])
    return volumes, masks


def submit(run, folders, out, *more):
    volumes, masks = folders
    return run("lits-submission", "--masks", masks, "--volumes", volumes, "--out", out, *more)


def test_names_type_and_header_are_those_that_the_challenge_takes(run, folders, tmp_path):
    before = contents(tmp_path)
    code, out, err = submit(run, folders, tmp_path / "out")
    assert code == 0, err
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["test-segmentation-0.nii", "test-segmentation-1.nii", "test-segmentation-11.nii"]
    for number in AFFINES:
        path = tmp_path / "out" / f"test-segmentation-{number}.nii"
        (scan,) = folders[0].rglob(f"test-volume-{number}.nii")
        mask, volume = nib.load(path), nib.load(scan)
        assert path.stat().st_size == 352 + np.prod(SHAPE)  # not compressed, a byte per voxel
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(mask.dataobj, label(number))
        for field in ("dim", "pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b"):
            np.testing.assert_array_equal(mask.header[field], volume.header[field])
        ours, theirs = sitk.ReadImage(str(path)), sitk.ReadImage(str(scan))
        assert ours.GetPixelID() == sitk.sitkUInt8
        for place in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
            assert getattr(ours, place)() == getattr(theirs, place)()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours).T, label(number))
    assert "These are 3 volumes; the challenge's test set has 70" in out
    assert "3 masks are written to" in out
    assert {path: data for path, data in contents(tmp_path).items() if path in before} == before


def test_nothing_is_written_unless_all_masks_are_there(run, folders, tmp_path):
    next(folders[1].rglob("test-volume-1_seg.nii.gz")).unlink()
    code, _, err = submit(run, folders, tmp_path / "out")
    assert code == 1
    assert last_line(err) == (
        f"error: {folders[1]} has no test-volume-1_seg.nii.gz; segment these volumes first, or move them away."
    )
    code, _, err = submit(run, folders, tmp_path / "out", "--output_postfix", "liver")
    assert "has no test-volume-0_liver.nii.gz, test-volume-1_liver.nii.gz, test-volume-11_liver.nii.gz;" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("voxels", "affine", "message"),
    [
        (label(0)[:8], AFFINES[0], "has the shape (8, 8, 6), but"),
        (np.stack([label(0)] * 2, -1), AFFINES[0], "has the shape (9, 8, 6, 2), but"),
        (label(0)[::-1], AFFINES[0] @ np.diag([-1, 1, 1, 1]), "differ in spacing, direction or origin"),
        (3 * label(0), AFFINES[0], "holds 0, 3, 6, but the challenge takes 0, 1 for liver and 2 for lesion."),
        (0.5 * label(0), AFFINES[0], "holds 0, 0.5, 1, but the challenge takes"),
    ],
    ids=["shape", "two channels", "orientation", "values", "halves"],
)
def test_a_mask_that_does_not_fit_is_named_before_anything_is_written(run, folders, tmp_path, voxels, affine, message):
    path = next(folders[1].rglob("test-volume-0_seg.nii.gz"))
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)
    code, _, err = submit(run, folders, tmp_path / "out")
    assert code == 1
    assert last_line(err).startswith(f"error: {path} ")
    assert message in last_line(err)
    assert not (tmp_path / "out").exists()


def test_a_submission_is_not_overwritten(run, folders, tmp_path):
    assert submit(run, folders, tmp_path / "out")[0] == 0
    before = contents(tmp_path)
    code, _, err = submit(run, folders, tmp_path / "out")
    assert code == 1
    assert "test-segmentation-0.nii, " in last_line(err)
    assert "exists already and is not overwritten; name another out." in last_line(err)
    assert contents(tmp_path) == before


def test_what_the_challenge_scores_as_nothing_is_told(run, folders, tmp_path):
    for path in folders[1].rglob("*_seg.nii.gz"):
        scan = nib.load(path)
        held = np.asarray(scan.dataobj)
        empty = "volume-0_" in path.name
        nib.save(nib.Nifti1Image(np.zeros_like(held) if empty else np.minimum(held, 1), scan.affine), path)
    code, out, err = submit(run, folders, tmp_path / "out")
    assert code == 0, err
    assert "No liver, the value 1, is in the masks of test-volume-0; the challenge gives their liver 0." in out
    assert "No mask has a lesion, the value 2: was the model trained with --merge_tumours false?" in out
