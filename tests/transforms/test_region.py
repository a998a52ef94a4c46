from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from med3d_components.data.dataset import ScanDataset
from med3d_components.transforms import RandRegionOfInterestd

SPACING = np.array([0.8, 1.0, 2.5])
ANGLE = np.deg2rad(25)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])


def affine_of(directions: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions * SPACING, (-40.0, 12.5, 300.0)
    return affine


DIRECTIONS = {"straight": np.eye(3), "flipped": np.diag([-1, -1, 1]), "oblique": TURN}
AFFINES = {name: affine_of(directions) for name, directions in DIRECTIONS.items()}


def sample(affine: np.ndarray = AFFINES["straight"], size: tuple[int, ...] = (48, 40, 24)) -> dict[str, Any]:
    """Make three channels that hold each voxel's position in mm, and a box of two classes."""
    voxels = np.stack([*np.indices(size), np.ones(size)]).reshape(4, -1)
    world = torch.as_tensor((affine @ voxels)[:3].reshape(3, *size))
    label = torch.zeros(1, *size, dtype=torch.uint8)
    label[:, 14:34, 12:28, 8:16] = 1
    label[:, 14:34, 12:28, 8:10] = 2
    return {"image": MetaTensor(world, affine=affine), "label": MetaTensor(label, affine=affine), "case": "1"}


def region(seed: int = 0, data: dict[str, Any] | None = None, **ranges: float) -> dict[Hashable, Any]:
    crop = RandRegionOfInterestd(["image", "label"], **ranges)
    crop.set_random_state(seed)
    return crop(sample() if data is None else data)


def world_of(volume: MetaTensor) -> torch.Tensor:
    """Return the position in mm that the affine gives each voxel, (3, H, W, D)."""
    size = volume.shape[1:]
    voxels = np.stack([*np.indices(size), np.ones(size)]).reshape(4, -1)
    return torch.as_tensor((np.asarray(volume.affine) @ voxels)[:3].reshape(3, *size))


def test_without_ranges_the_region_is_the_box_of_the_foreground() -> None:
    data = sample()
    result = region(data=data)
    assert torch.equal(result["image"].as_tensor(), data["image"].as_tensor()[:, 14:34, 12:28, 8:16])
    assert torch.equal(result["label"].as_tensor(), data["label"].as_tensor()[:, 14:34, 12:28, 8:16])
    assert result["label"].dtype == torch.uint8
    assert torch.equal(data["label"].affine, torch.as_tensor(AFFINES["straight"]))
    assert result["case"] == "1"


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_every_voxel_keeps_its_place_in_the_world(affine: np.ndarray, degrees: float) -> None:
    for seed in range(3):
        result = region(seed, sample(affine), expand_mm=3, translate_mm=2, rotate_degrees=degrees)
        image, label = result["image"], result["label"]
        assert image.shape[1:] == label.shape[1:]
        assert torch.equal(image.affine, label.affine)
        np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), SPACING)
        inside = (label.as_tensor()[0] > 0).expand(3, -1, -1, -1)
        error = (world_of(image) - image.as_tensor()).abs()
        assert inside.sum() > 1000
        assert error[inside].max() < 0.1 * SPACING.min()


def test_a_turned_label_covers_the_same_place_as_before() -> None:
    data = sample(AFFINES["oblique"])
    result = region(4, data, expand_mm=20, translate_mm=3, rotate_degrees=30)
    assert set(result["label"].unique().tolist()) == {0, 1, 2}
    for value in (1, 2):
        before, after = (item["label"].as_tensor()[0] == value for item in (data, result))
        assert after.sum() == pytest.approx(float(before.sum()), rel=0.03)
        centres = [
            world_of(item["label"])[:, mask].mean(dim=1)
            for item, mask in ((data, before), (result, after))
        ]  # fmt: skip
        assert (centres[0] - centres[1]).abs().max() < 0.1


def test_a_turn_is_one_in_millimetres_about_the_centre_of_the_box() -> None:
    data = sample()
    result = region(1, data, rotate_degrees=40)
    affine = result["label"].affine
    directions = (affine[:3, :3] / torch.as_tensor(SPACING)).numpy()
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-9)
    angles = np.abs(np.rad2deg(np.arctan2(directions[2, 1], directions[2, 2])))
    assert 0 < angles < 40
    assert np.abs(directions - np.eye(3)).max() > 0.1
    assert result["label"].shape[1:] == (20, 16, 8)
    before = data["label"].affine @ torch.tensor([23.5, 19.5, 11.5, 1], dtype=torch.float64)
    after = affine @ torch.tensor([9.5, 7.5, 3.5, 1], dtype=torch.float64)
    torch.testing.assert_close(after, before)


def test_expansion_and_translation_stay_in_their_ranges_and_use_them() -> None:
    results = [region(seed, expand_mm=5)["label"] for seed in range(20)]
    assert all((label > 0).sum() == 20 * 16 * 8 for label in results)
    sizes = np.array([label.shape[1:] for label in results])
    grown = (sizes - [20, 16, 8]) * SPACING
    assert grown.min() >= 0
    assert (grown.max(0) > 6).all()
    assert (grown.max(0) <= 10 + SPACING).all()
    starts = np.array([region(seed, translate_mm=5)["label"].affine[:3, 3] for seed in range(20)])
    moved = starts - (AFFINES["straight"] @ [14, 12, 8, 1])[:3]
    assert (np.abs(moved) <= 5 + SPACING / 2).all()
    assert (moved.min(0) < -2).all()
    assert (moved.max(0) > 2).all()


def test_a_region_that_turns_out_of_the_scan_holds_the_images_minimum_and_label_0_there() -> None:
    data = sample()
    data["label"][:] = 1
    data["image"] = MetaTensor(torch.full((2, 48, 40, 24), 7.0), affine=AFFINES["straight"])
    data["image"][:, 24, 20, 12] = torch.tensor([-1000.0, 3.0])
    result = region(1, data, rotate_degrees=15)
    assert result["image"].shape[1:] == result["label"].shape[1:] == (48, 40, 24)
    matrix = np.linalg.inv(AFFINES["straight"])
    voxels = np.einsum("ij,j...->i...", matrix[:3, :3], world_of(result["image"])) + matrix[:3, 3, None, None, None]
    outside = torch.as_tensor((voxels < -1.01) | (voxels > np.array([48, 40, 24])[:, None, None, None] + 0.01)).any(0)
    assert outside.sum() > 500
    for channel, lowest in enumerate((-1000, 3)):
        np.testing.assert_allclose(result["image"].as_tensor()[channel, outside], lowest, rtol=1e-5)
    assert (result["label"][0, outside] == 0).all()
    assert (result["label"][0, ~outside] == 1).sum() > 30000


def test_without_rotation_a_region_ends_where_the_scan_does() -> None:
    data = sample()
    data["label"][:, :4, :, -4:] = 1
    for seed in range(10):
        result = region(seed, data, expand_mm=20, translate_mm=10)
        torch.testing.assert_close(result["image"].as_tensor(), world_of(result["image"]))
        inside = world_of(data["image"])
        for axis, place in enumerate(world_of(result["image"])):
            assert inside[axis].min() <= place.min() <= place.max() <= inside[axis].max()


@pytest.mark.parametrize("degrees", [0.0, 10.0])
def test_a_region_has_at_least_the_windows_size_unless_the_scan_is_smaller(degrees: float) -> None:
    crop = RandRegionOfInterestd(["image", "label"], rotate_degrees=degrees, at_least=(32, 8, 64))
    result = crop(sample())
    assert result["image"].shape[1:] == (32, 16, 24)
    assert (result["label"] > 0).sum() > 0.8 * 20 * 16 * 8
    if degrees == 0:
        assert (result["label"] > 0).sum() == 20 * 16 * 8
        assert result["label"].affine[0, 3] == AFFINES["straight"][0, 3] + 8 * SPACING[0]


def test_a_region_moved_out_of_the_scan_keeps_a_voxel_of_it() -> None:
    results = [region(seed, translate_mm=500) for seed in range(6)]
    assert all(min(result["image"].shape) >= 1 for result in results)
    assert any((result["label"] == 0).all() for result in results)
    for result in results:
        torch.testing.assert_close(result["image"].as_tensor(), world_of(result["image"]))


@pytest.mark.parametrize("degrees", [0.0, 10.0])
def test_an_empty_label_takes_the_whole_volume(degrees: float) -> None:
    data = sample()
    data["label"][:] = 0
    result = region(0, data, rotate_degrees=degrees)
    assert result["image"].shape[1:] == result["label"].shape[1:] == (48, 40, 24)
    if degrees == 0:
        assert torch.equal(result["image"].affine, data["image"].affine)


@pytest.mark.parametrize("degrees", [0.0, 10.0])
def test_a_single_voxel_gives_a_region_of_one(degrees: float) -> None:
    data = sample(size=(9, 9, 1)) | {"label": MetaTensor(torch.zeros(1, 9, 9, 1), affine=AFFINES["straight"])}
    data["label"][0, 4, 5, 0] = 1
    result = region(0, data, rotate_degrees=degrees)
    assert result["image"].shape == (3, 1, 1, 1)
    torch.testing.assert_close(result["image"].as_tensor().double(), world_of(result["image"]), atol=1e-4, rtol=0)
    assert result["label"].item() == 1


def test_regions_follow_the_seed_of_the_dataset() -> None:
    transform = Compose([RandRegionOfInterestd(["image", "label"], "label", 5, 5, 10)])
    dataset = ScanDataset([sample()], transform)
    first, second, third = dataset[0, 3], dataset[0, 4], dataset[0, 3]
    assert torch.equal(first["image"].as_tensor(), third["image"].as_tensor())
    assert not torch.equal(first["label"].affine, second["label"].affine)


def test_the_label_may_have_another_name() -> None:
    data = sample()
    data["liver"] = data.pop("label")
    crop = RandRegionOfInterestd(["image", "liver"], "liver", rotate_degrees=10)
    assert crop(data)["liver"].dtype == torch.uint8


@pytest.mark.parametrize("name", ["expand_mm", "translate_mm", "rotate_degrees"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_ranges_are_zero_or_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        RandRegionOfInterestd("image", **{name: value})


def test_volumes_that_cannot_be_cropped_together_are_refused() -> None:
    data = sample()
    with pytest.raises(ValueError, match=r"image has the size \(48, 40, 23\), but label \(48, 40, 24\)"):
        region(data=data | {"image": data["image"][..., :23]})
    with pytest.raises(ValueError, match="without an affine"):
        region(data=data | {"image": data["image"].as_tensor()})
    with pytest.raises(ValueError, match="must be positive"):
        region(data=data | {"label": MetaTensor(data["label"].as_tensor(), affine=torch.zeros(4, 4))})
