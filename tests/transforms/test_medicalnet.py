from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged

from med3d_components.transforms.medicalnet import MedicalNetDemoPreprocessd

SIZE = (7, 24, 20)


@pytest.fixture
def nifti(tmp_path):
    """Write an MRI-like volume with an empty background and its label, and return their paths."""
    image, label = np.zeros((12, 20, 10), np.float32), np.zeros((12, 20, 10), np.uint8)
    image[2:10, 3:17, 2:8] = np.random.default_rng(0).uniform(50, 150, size=(8, 14, 6))
    label[4:9, 6:12, 3:7] = 2
    for name, values in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(values, np.diag([-1.0, 1.0, 3.0, 1.0])), tmp_path / f"{name}.nii.gz")
    return {name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "label")}


@pytest.fixture
def sample(nifti):
    return LoadImaged(["image", "label"], ensure_channel_first=True)(nifti)


def test_the_voxels_above_zero_get_mean_zero_and_deviation_one_and_all_voxels_are_transformed(sample):
    image = sample["image"].as_tensor()
    out = MedicalNetDemoPreprocessd("image", image.shape[1:])(sample)["image"].as_tensor()

    assert out[image > 0].mean() == pytest.approx(0, abs=1e-5)
    assert out[image > 0].std(unbiased=False) == pytest.approx(1, abs=1e-5)
    positive = image[image > 0]
    torch.testing.assert_close(out, (image - positive.mean()) / positive.std(unbiased=False))


def test_on_ct_the_negative_voxels_are_transformed_but_do_not_count():
    image = torch.tensor([-1000.0, -100.0, 0.0, 20.0, 40.0, 60.0, 80.0, 100.0]).reshape(1, 2, 2, 2)

    out = MedicalNetDemoPreprocessd("image", (2, 2, 2))({"image": MetaTensor(image)})["image"].as_tensor()

    torch.testing.assert_close(out, (image - 60) / 800**0.5)  # mean and variance of 20, 40, 60, 80, 100


def test_the_default_shape_is_the_one_of_the_demonstration(sample):
    out = MedicalNetDemoPreprocessd(["image", "label"])(sample)

    assert out["image"].shape == out["label"].shape == (1, 56, 448, 448)


def test_images_and_labels_take_nearest_interpolation_on_one_grid(sample):
    out = MedicalNetDemoPreprocessd(["image", "label"], SIZE)(sample)

    assert out["image"].shape == out["label"].shape == (1, *SIZE)
    assert out["label"].unique().tolist() == [0, 2]
    assert len(out["image"].unique()) <= len(sample["image"].unique())
    torch.testing.assert_close(out["image"].affine, out["label"].affine)


def test_by_default_two_runs_agree_and_empty_voxels_share_one_value(sample):
    transform = MedicalNetDemoPreprocessd(["image", "label"], SIZE)
    out = [transform(sample)["image"].as_tensor() for _ in range(2)]

    assert torch.equal(*out)
    assert (out[0] == out[0][0, 0, 0, 0]).float().mean() > 0.5


def test_noise_fills_the_empty_voxels_only_and_repeats_with_its_seed(sample):
    plain = MedicalNetDemoPreprocessd(["image", "label"], SIZE)(sample)["image"].as_tensor()
    transform = MedicalNetDemoPreprocessd(["image", "label"], SIZE, noise=True)
    first, second = (transform(sample)["image"].as_tensor() for _ in range(2))
    again = Compose([transform]).set_random_state(3)(sample)["image"].as_tensor()
    same = Compose([MedicalNetDemoPreprocessd(["image", "label"], SIZE, noise=True)]).set_random_state(3)(sample)[
        "image"
    ]

    empty = plain == plain[0, 0, 0, 0]
    assert torch.equal(first[~empty], plain[~empty])
    assert first[empty].mean() == pytest.approx(0, abs=0.1)
    assert first[empty].std() == pytest.approx(1, abs=0.1)
    assert not torch.equal(first, second)
    assert torch.equal(again, same.as_tensor())
    fresh = MedicalNetDemoPreprocessd(["image", "label"], SIZE, noise=True)(sample)["image"].as_tensor()
    assert torch.equal(fresh, first)


@pytest.mark.parametrize("nearest_interp", [True, False])
def test_a_prediction_is_inverted_to_the_files_shape_affine_and_place(nifti, nearest_interp):
    preprocessing = Compose(
        [
            LoadImaged(["image", "label"], ensure_channel_first=True),
            MedicalNetDemoPreprocessd(["image", "label"], (24, 40, 30)),
        ]
    )
    original = LoadImaged("label", ensure_channel_first=True)(nifti)["label"]

    data = preprocessing(nifti)
    data["pred"] = 0 * data["image"] + data["label"].as_tensor()
    pred = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=nearest_interp)(data)["pred"]

    assert pred.shape == original.shape
    torch.testing.assert_close(pred.affine, original.affine, atol=1e-9, rtol=0)
    assert torch.equal(pred.as_tensor(), original.as_tensor().float())
    restored = preprocessing.inverse({key: data[key] for key in ("image", "label")})
    assert torch.equal(restored["label"].as_tensor(), original.as_tensor().float())


def test_missing_keys_are_refused_or_skipped(sample):
    del sample["label"]

    with pytest.raises(KeyError, match="label"):
        MedicalNetDemoPreprocessd(["image", "label"], SIZE)(sample)
    assert "label" not in MedicalNetDemoPreprocessd(["image", "label"], SIZE, allow_missing_keys=True)(sample)


@pytest.mark.parametrize("value", [0.0, -1000.0, 7.0])
def test_an_image_without_two_values_above_zero_is_refused_by_name(value):
    volume = MetaTensor(torch.full((1, 4, 4, 4), value))
    volume.meta["filename_or_obj"] = "air.nii.gz"

    with pytest.raises(ValueError, match=r"air\.nii\.gz has no two different values above 0"):
        MedicalNetDemoPreprocessd("image", SIZE)({"image": volume})
    with pytest.raises(ValueError, match="The image has no two different values above 0"):
        MedicalNetDemoPreprocessd("image", SIZE)({"image": volume.as_tensor()})
