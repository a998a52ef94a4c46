from __future__ import annotations

import numpy as np
import torch

from med3d_components.transforms import RandForegroundCropd


def test_crops_have_the_size_of_the_domain_and_follow_the_seed() -> None:
    image = torch.rand(1, 30, 12, 20)
    crop = RandForegroundCropd(["image", "label"], {"a": (16, 16, 16), "b": (8, 8, 8)})
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
    crop = RandForegroundCropd(["image", "label"], {"a": (8, 8, 8)}).set_random_state(0)
    found = sum(bool(crop({"image": label, "label": label})["label"].any()) for _ in range(100))
    assert 35 <= found <= 65


def test_every_voxel_of_foreground_and_of_background_may_be_the_centre() -> None:
    label = torch.zeros(1, 4, 5, 6)
    label[0, 1:3, 2:4, 0:2] = torch.tensor([[[1, 2], [0, 1]], [[0, 0], [1, 1]]])
    crop = RandForegroundCropd("label", (1, 1, 1)).set_random_state(0)
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
    assert RandForegroundCropd(["image", "label"], (4, 4, 4))(full)["label"].all()


def test_a_label_without_foreground_gives_crops_from_everywhere() -> None:
    empty = {"image": torch.rand(1, 20, 20, 20), "label": torch.zeros(1, 20, 20, 20)}
    assert RandForegroundCropd(["image", "label"], {"a": (8, 8, 8)})(empty)["image"].shape == (1, 8, 8, 8)


def test_a_balanced_crop_is_centred_on_each_class_as_often_as_on_any_other() -> None:
    label = torch.zeros(1, 32, 32, 32)
    label[0, 2:28, 2:28, 2:28] = 1
    label[0, 9, 9, 9:11] = 3  # 2 is missing
    crop = RandForegroundCropd("label", (1, 1, 1), balanced=True).set_random_state(0)
    drawn = [int(crop({"label": label})["label"]) for _ in range(600)]
    assert set(drawn) == {0, 1, 3}
    assert all(150 < drawn.count(value) < 250 for value in (0, 1, 3))
