from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose
from scipy.stats import chisquare

from med3d_components.data.dataset import ScanDataset
from med3d_components.transforms import RandFlipsd, RandForegroundCropd, RandTissueCropd
from med3d_components.transforms.crop import tissue_share

AFFINE = torch.tensor([[0.7, 0, 0, -90], [0, -0.7, 0, 80], [0, 0, 1.25, -300], [0, 0, 0, 1]], dtype=torch.float64)
SMALL: dict[str, Any] = {"region": (8, 8, 6), "margin": (10, 10, 5)}


def scan(size: tuple[int, ...] = (40, 44, 30), share: float = 0.1) -> dict[str, Any]:
    """Make air at random in -1000 to -800 HU, with tissue in some voxels, and the place of each voxel beside it."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *size, generator=generator) * 200 - 1000
    image[torch.rand(1, *size, generator=generator) < share] = 40
    place = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    return {
        "image": MetaTensor(image, affine=AFFINE, meta={"filename_or_obj": "ct.nii"}),
        "place": MetaTensor(place, affine=AFFINE),
        "case": {"name": "1"},
    }


def starts(transform: RandTissueCropd, data: dict[str, Any]) -> np.ndarray:
    """Return the first voxel of each cube."""
    return np.array([sample["place"][:, 0, 0, 0].tolist() for sample in transform(data)])


def restated(cube: np.ndarray, depth: int, slices: int, threshold: float) -> float:
    """Restate the published measure, voxel by voxel; ``cube`` goes on for the slices after it."""
    nearness = []
    for i, j, k in np.ndindex(*cube.shape[:2], depth):
        ahead = 0
        while ahead < slices - 1 and not (k + ahead < cube.shape[2] and cube[i, j, k + ahead] >= threshold):
            ahead += 1
        nearness.append(1 - ahead / (slices - 1))
    return float(np.mean(nearness))


@pytest.mark.parametrize("slices", [2, 3, 5])
@pytest.mark.parametrize("start", [(1, 2, 3), (10, 8, 24)], ids=["inside", "at the end of the scan"])
def test_the_share_of_tissue_is_the_published_measure(slices: int, start: tuple[int, ...]) -> None:
    image = scan(share=0.2)["image"].as_tensor()
    (i, j, k), (height, width, depth) = start, (8, 7, 6)
    part = image[0, i : i + height, j : j + width, k : k + depth + slices].numpy()
    assert tissue_share(image, start, (8, 7, 6), 40.0, slices) == pytest.approx(restated(part, depth, slices, 40.0))


def test_with_one_slice_it_is_the_plain_share() -> None:
    image = scan()["image"].as_tensor()
    expected = float((image[:, 2:10, 3:9, 4:9] >= -150).float().mean())
    assert tissue_share(image, (2, 3, 4), (8, 6, 5), slices=1) == pytest.approx(expected)
    assert tissue_share(image, (2, 3, 4), (8, 6, 5), slices=2) == pytest.approx(expected)


def test_cubes_with_too_much_tissue_are_drawn_again() -> None:
    data = scan(share=0)
    data["image"][:, 20:] = 40
    transform = RandTissueCropd(["image", "place"], **SMALL, count=300, max_tissue=0.3).set_random_state(0)
    found = starts(transform, data)
    assert found[:, 0].min() == 10
    assert found[:, 0].max() == 14  # two of eight voxels are tissue
    everything = RandTissueCropd(["image", "place"], **SMALL, count=300, max_tissue=1).set_random_state(0)
    assert starts(everything, data)[:, 0].max() == 22


def test_cubes_lie_anywhere_within_the_margin() -> None:
    transform = RandTissueCropd(["image", "place"], **SMALL, count=1000, max_tissue=1).set_random_state(0)
    found = starts(transform, scan())
    for axis, possible in enumerate((range(10, 23), range(10, 27), range(5, 20))):
        values, counts = np.unique(found[:, axis], return_counts=True)
        assert values.tolist() == list(possible)
        assert chisquare(counts).pvalue > 0.01


def test_on_an_axis_too_short_for_the_margin_cubes_lie_in_the_middle_half() -> None:
    options: dict[str, Any] = {"region": (8, 8, 6), "margin": (16, 17, 100), "max_tissue": 1, "count": 500}
    found = starts(RandTissueCropd(["image", "place"], **options).set_random_state(0), scan((40, 41, 14)))
    assert np.unique(found[:, 0]).tolist() == [16]
    assert np.unique(found[:, 1]).tolist() == list(range(8, 26))
    assert np.unique(found[:, 2]).tolist() == list(range(2, 7))


def test_without_a_cube_of_lung_that_with_the_least_tissue_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    data = scan(share=1.0)
    data["image"][:, 24:] = -800
    options: dict[str, Any] = {**SMALL, "margin": (0, 0, 0), "max_tissue": 0.1, "tries": 30}
    data["image"][..., ::2] = 40  # half of a cube at least
    transform = RandTissueCropd(["image", "place"], **options, count=20).set_random_state(0)
    with caplog.at_level(logging.DEBUG, "med3d_components.transforms.crop"):
        found = starts(transform, data)
    assert len(found) == 20
    assert (found[:, 0] >= 24 - 2).mean() > 0.8
    assert len(caplog.records) == 1
    assert "ct.nii: 20 of 20 cubes hold more tissue than 0.1, up to" in caplog.text
    assert caplog.records[0].levelno == logging.DEBUG


def test_a_scan_with_lung_is_cut_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        RandTissueCropd("image", **SMALL)(scan(share=0))
    assert not caplog.records


def test_cubes_are_copies_that_keep_their_place_and_the_other_entries() -> None:
    data = scan()
    before = {key: data[key].clone() for key in ("image", "place")}
    transform = RandTissueCropd(["image", "place"], **SMALL, count=3, max_tissue=1).set_random_state(0)
    samples = transform(data)
    for sample in samples:
        assert sample["image"].shape == (1, 8, 8, 6)
        assert sample["place"].dtype == torch.int64
        low = sample["place"][:, 0, 0, 0].tolist()
        i, j, k = low
        assert torch.equal(sample["image"].as_tensor(), before["image"].as_tensor()[:, i : i + 8, j : j + 8, k : k + 6])
        expected = AFFINE @ torch.tensor([*low, 1.0], dtype=torch.float64)
        for key in ("image", "place"):
            torch.testing.assert_close(sample[key].affine[:, 3], expected)
        assert sample["image"].meta["filename_or_obj"] == "ct.nii"
        assert sample["image"].is_contiguous()
        sample["image"].zero_()
        sample["case"]["name"] = "changed"
    assert data["case"] == {"name": "1"}
    for key, volume in before.items():
        assert torch.equal(data[key].as_tensor(), volume.as_tensor())
        assert torch.equal(data[key].affine, AFFINE)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_a_scan_smaller_than_the_cube_is_padded_with_its_lowest_value(dtype: torch.dtype) -> None:
    image = MetaTensor(torch.full((1, 6, 20, 4), 30).to(dtype), affine=AFFINE)
    image[0, 0, 0, 0] = -1024
    samples = RandTissueCropd("image", region=(8, 8, 6), margin=(0, 0, 0), count=4)({"image": image})
    for sample in samples:
        cube = sample["image"]
        assert cube.dtype == dtype
        assert cube.shape == (1, 8, 8, 6)
        assert (cube[:, [0, -1]] == -1024).all()
        assert (cube[..., [0, -1]] == -1024).all()
        assert (cube[:, 2:7, 1:, 2:5] == 30).all()
        assert float(cube.affine[0, 3]) == pytest.approx(-90 - 0.7)
        assert float(cube.affine[2, 3]) == pytest.approx(-300 - 1.25)
    assert image.shape == (1, 6, 20, 4)


def test_a_loader_makes_one_batch_of_the_cubes() -> None:
    crop = RandTissueCropd(["image", "place"], **SMALL, count=3)
    loader = DataLoader(ScanDataset([scan()], Compose([crop, RandFlipsd(["image", "place"])])), batch_size=1)
    batch = next(iter(loader))
    assert batch["image"].shape == (3, 1, 8, 8, 6)
    assert batch["case"]["name"] == ["1"] * 3


def test_cubes_follow_the_seed_of_the_dataset() -> None:
    dataset = ScanDataset([scan()], Compose([RandTissueCropd("image", **SMALL, count=2)]))
    first, again, other = dataset[0, 3], dataset[0, 3], dataset[0, 4]
    assert all(torch.equal(one["image"], two["image"]) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0]["image"], first[1]["image"])
    assert not torch.equal(first[0]["image"], other[0]["image"])


def test_volumes_that_do_not_fit_are_named() -> None:
    data = scan()
    with pytest.raises(ValueError, match=r"image has the shape \(40, 44, 30\), but must be 4-D"):
        RandTissueCropd("image")(data | {"image": data["image"][0]})
    with pytest.raises(ValueError, match=r"place has the size \(40, 44, 29\), but image \(40, 44, 30\)"):
        RandTissueCropd(["image", "place"])(data | {"place": data["place"][..., :29]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": (64, 64)}, r"region is \(64, 64\), but must be three integers of 1 or more"),
        ({"region": (64, 0, 32)}, r"region is \(64, 0, 32\)"),
        ({"region": (64, 6.5, 32)}, r"region is \(64, 6\.5, 32\)"),
        ({"margin": (0, 0, -1)}, r"margin is \(0, 0, -1\), but must be three integers of 0 or more"),
        ({"count": 0}, "count is 0, but must be 1 or more"),
        ({"slices": 0}, "slices is 0"),
        ({"tries": 0}, "tries is 0"),
        ({"max_tissue": 15}, "max_tissue is 15, but must be a share, from 0 to 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandTissueCropd("image", **options)


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
