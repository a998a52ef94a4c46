from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from med3d_components.transforms import CheckImaged, CheckLabeld, RandDomainCropd, SelectChanneld
from med3d_components.transforms.checks import of_domain


def test_a_sample_without_a_domain_has_the_only_one_there_is() -> None:
    assert of_domain({"a": 1}, {}) == 1
    assert of_domain({"a": 1, "b": 2}, {"domain": "b"}) == 2
    with pytest.raises(ValueError, match="there are several domains: a, b"):
        of_domain({"a": 1, "b": 2}, {})
    with pytest.raises(ValueError, match="There is no domain 'c'; known are a"):
        of_domain({"a": 1}, {"domain": "c"})


def test_the_domains_channel_is_kept() -> None:
    image = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 4, 4, 4)
    select = SelectChanneld("image", {"a": 2, "b": 5})
    kept = select({"image": image, "domain": "a"})["image"]
    assert kept.shape == (1, 4, 4, 4)
    assert kept.unique() == 2
    assert select({"image": image[:1], "domain": "b"})["image"].shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match="there is no channel 5"):
        select({"image": image, "domain": "b"})


def test_several_channels_where_the_training_had_one_are_refused() -> None:
    select = SelectChanneld("image", None)
    assert select({"image": torch.ones(1, 4, 4, 4)})["image"].shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match="the image has 3 channels, but those of the training have one"):
        select({"image": torch.ones(3, 4, 4, 4)})


def test_parameters_without_domains_hold_for_every_sample() -> None:
    image = torch.arange(2.0).reshape(2, 1, 1, 1).expand(2, 4, 4, 4)
    for sample in ({"image": image}, {"image": image, "domain": "a"}):
        assert SelectChanneld("image", 1)(sample)["image"].unique() == 1
    crop = RandDomainCropd("image", (3, 4, 5), label_key="image").set_random_state(0)
    assert crop({"image": image[1:]})["image"].shape == (1, 3, 4, 5)


def test_volumes_that_no_normalisation_saves_are_refused() -> None:
    image = torch.rand(1, 4, 4, 4)
    assert CheckImaged("image")({"image": image})["image"] is image
    with pytest.raises(ValueError, match="all voxels of the image are 3"):
        CheckImaged("image")({"image": torch.full((1, 4, 4, 4), 3.0)})
    image[0, 1, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        CheckImaged("image")({"image": image})


@pytest.mark.parametrize("value", [-1.0, 2.0, 0.5])
def test_label_values_outside_the_declared_set_are_named_with_their_file(value: float) -> None:
    label = MetaTensor(torch.ones(1, 4, 4, 4), meta={"filename_or_obj": "label.nii"})
    check = CheckLabeld("label", {"a": 2})
    check({"label": label, "domain": "a"})
    label[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=rf"label label\.nii holds the values .*{value:g}.* declares 0 to 1"):
        check({"label": label, "domain": "a"})


def test_crops_have_the_size_of_the_domain_and_follow_the_seed() -> None:
    image = torch.rand(1, 30, 12, 20)
    crop = RandDomainCropd(["image", "label"], {"a": (16, 16, 16), "b": (8, 8, 8)})
    sample = {"image": image, "label": (image > 0.9).float()}
    for domain, size in (("a", 16), ("b", 8)):
        crop.set_random_state(3)
        first = crop({**sample, "domain": domain})
        assert first["image"].shape == first["label"].shape == (1, size, size, size)
        assert torch.equal(first["label"], (first["image"] > 0.9).float())
        crop({**sample, "domain": domain})
        crop.set_random_state(3)
        assert torch.equal(crop({**sample, "domain": domain})["image"], first["image"])


def test_half_of_the_crops_are_centred_on_the_foreground() -> None:
    label = torch.zeros(1, 64, 64, 64)
    label[0, 30:33, 30:33, 30:33] = 1
    crop = RandDomainCropd(["image", "label"], {"a": (8, 8, 8)}).set_random_state(0)
    found = sum(bool(crop({"image": label, "label": label})["label"].any()) for _ in range(100))
    assert 35 <= found <= 65


def test_every_voxel_of_foreground_and_of_background_may_be_the_centre() -> None:
    label = torch.zeros(1, 4, 5, 6)
    label[0, 1:3, 2:4, 0:2] = torch.tensor([[[1, 2], [0, 1]], [[0, 0], [1, 1]]])
    crop = RandDomainCropd("label", (1, 1, 1)).set_random_state(0)
    centers = []
    for _ in range(3000):
        crop({"label": label})
        centers.append(tuple(crop.center))
    counts = {voxel: centers.count(voxel) for voxel in np.ndindex(4, 5, 6)}
    inside = [counts[voxel] for voxel in counts if label[0][voxel] > 0]
    outside = [counts[voxel] for voxel in counts if label[0][voxel] == 0]
    # Both are 1500 by expectation, spread evenly.
    assert 1400 < sum(inside) < 1600
    assert 240 < min(inside) <= max(inside) < 360
    assert 1 <= min(outside) <= max(outside) < 30


def test_a_label_that_is_all_foreground_is_cropped_too() -> None:
    full = {"image": torch.rand(1, 9, 8, 7), "label": torch.ones(1, 9, 8, 7)}
    assert RandDomainCropd(["image", "label"], (4, 4, 4))(full)["label"].all()


def test_a_label_without_foreground_gives_crops_from_everywhere() -> None:
    empty = {"image": torch.rand(1, 20, 20, 20), "label": torch.zeros(1, 20, 20, 20)}
    assert RandDomainCropd(["image", "label"], {"a": (8, 8, 8)})(empty)["image"].shape == (1, 8, 8, 8)
