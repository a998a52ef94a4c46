from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose
from scipy.stats import chisquare

from med3d_components.data.dataset import ScanDataset
from med3d_components.transforms import RandFlipsd, RandTissueCropd
from med3d_components.transforms.tissue import tissue_share

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


def sample_of(image: np.ndarray | torch.Tensor, name: str = "ct.nii") -> dict[str, Any]:
    """Make a sample of a scan (H, W, D), with the place of each voxel beside it."""
    place = torch.stack(torch.meshgrid(*map(torch.arange, image.shape), indexing="ij"))
    volume = MetaTensor(torch.as_tensor(image)[None].float(), affine=AFFINE, meta={"filename_or_obj": name})
    return {"image": volume, "place": MetaTensor(place, affine=AFFINE)}


def ellipse(size: tuple[int, int, int], radii: tuple[float, float]) -> np.ndarray:
    """Make 40 HU in an elliptic cylinder, along the last axis, in air."""
    x, y = (np.arange(length) - (length - 1) / 2 for length in size[:2])
    image = np.full(size, -1000, np.float32)
    image[(x[:, None] / radii[0]) ** 2 + (y / radii[1]) ** 2 <= 1] = 40
    return image


def test_of_a_wide_field_of_view_cubes_are_the_body_not_the_air(caplog: pytest.LogCaptureFixture) -> None:
    data = {"image": sample_of(ellipse((512, 512, 105), (190, 120)))["image"]}  # 380 x 240 mm in voxels of 1 x 1 x 4 mm
    samples = RandTissueCropd("image", count=12, tries=10).set_random_state(0)(data)
    air = np.array([float((sample["image"] < -900).float().mean()) for sample in samples])
    assert air.mean() < 0.1
    assert air.max() < 0.55
    assert (
        "12 of 12 cubes were drawn 10 times without finding at most 15% of tissue" in caplog.text
    )  # there is no lung in it


def test_cubes_of_lung_are_taken_though_air_outside_has_as_little_tissue(caplog: pytest.LogCaptureFixture) -> None:
    image = ellipse((160, 128, 32), (60, 50))
    image[52:108, 32:96, 4:28] = -850  # lung
    image[76:84, 60:68, 28:] = -1000  # the windpipe, which leaves the scan at the top
    options: dict[str, Any] = {"region": (32, 32, 12), "margin": (0, 0, 0), "count": 40, "tries": 200}
    found = starts(RandTissueCropd(["image", "place"], **options).set_random_state(0), sample_of(image))
    assert (found >= (52 - 5, 32 - 5, 4 - 2)).all()  # 15 % of a side of 32, of 12
    assert (found <= (108 - 27, 96 - 27, 28 - 10)).all()
    assert not caplog.records


def test_cubes_lie_in_the_bodys_box_even_where_that_lies_in_the_margin() -> None:
    image = np.full((64, 64, 32), -1000, np.float32)
    image[48:, 4:20] = 40
    options: dict[str, Any] = {**SMALL, "margin": (24, 24, 5), "count": 200, "max_tissue": 1}
    found = starts(RandTissueCropd(["image", "place"], **options).set_random_state(0), sample_of(image))
    assert np.unique(found[:, 0]).tolist() == list(range(44, 57))  # within a block's side
    assert np.unique(found[:, 1]).tolist() == list(range(0, 17))
    assert np.unique(found[:, 2]).tolist() == list(range(5, 22))


def test_a_cube_that_is_more_than_half_air_outside_is_drawn_again() -> None:
    image = ellipse((128, 128, 16), (48, 24))
    transform = RandTissueCropd("image", region=(32, 32, 8), margin=(0, 0, 0), count=100, max_tissue=1)
    samples = transform.set_random_state(0)(sample_of(image))
    air = [float((sample["image"] < -900).float().mean()) for sample in samples]
    assert 0.3 < max(air) < 0.58  # blocks that the skin is in are none of air


def test_where_all_cubes_are_air_the_one_with_the_least_is_taken_and_said(caplog: pytest.LogCaptureFixture) -> None:
    image = ellipse((64, 64, 32), (8, 6))
    transform = RandTissueCropd("image", region=(32, 32, 16), margin=(0, 0, 0), count=3).set_random_state(0)
    samples = transform(sample_of(image))
    assert all((sample["image"] > 0).any(-1).sum() == (image > 0).any(-1).sum() for sample in samples)
    assert "ct.nii: 3 of 3 cubes were drawn 50 times without" in caplog.text
    assert re.search(r"cubes with up to \d\d% of air are taken instead", caplog.text)


def test_a_scan_that_is_nothing_but_air_is_cut_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    samples = RandTissueCropd("image", **SMALL, count=2)(sample_of(np.full((40, 40, 20), -1000, np.float32)))
    assert len(samples) == 2
    assert "up to 100% of air" in caplog.text


def test_in_other_units_air_is_what_is_as_dark_as_the_darkest(caplog: pytest.LogCaptureFixture) -> None:
    image = (ellipse((96, 96, 32), (24, 24)) + 1000) / 1040
    options: dict[str, Any] = {**SMALL, "margin": (0, 0, 0), "count": 100, "max_tissue": 1, "air": None}
    found = starts(RandTissueCropd(["image", "place"], **options).set_random_state(0), sample_of(image))
    assert found[:, :2].min() >= 16
    assert found[:, :2].max() <= 80 - 8
    assert not caplog.records


def test_without_a_cube_of_lung_any_of_the_body_is_taken_and_said_once_per_scan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = scan(share=1.0)
    options: dict[str, Any] = {**SMALL, "max_tissue": 0.1, "tries": 3, "count": 300}
    transform = RandTissueCropd(["image", "place"], **options).set_random_state(0)
    found = starts(transform, data)
    assert np.unique(found[:, 0]).tolist() == list(range(10, 23))
    transform(data)
    transform(sample_of(data["image"][0].as_tensor(), "other.nii"))
    first, other = caplog.records
    assert first.getMessage() == (
        "ct.nii: 300 of 300 cubes were drawn 3 times without finding at most 10% of tissue and 50% of air around the "
        "body; cubes with more tissue are taken instead."
    )
    assert first.levelno == logging.WARNING
    assert other.getMessage().startswith("other.nii: ")


def test_a_scan_that_one_worker_told_of_is_not_told_again(caplog: pytest.LogCaptureFixture) -> None:
    crop = RandTissueCropd("image", **SMALL)
    data = {"image": scan(share=1.0)["image"]}
    list(DataLoader(ScanDataset([data], Compose([crop])), num_workers=1))
    crop(data)
    assert not caplog.records


def test_a_scan_with_lung_is_cut_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "med3d_components"):
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
