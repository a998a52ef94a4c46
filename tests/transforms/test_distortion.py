from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.stats import binomtest, chisquare, ks_2samp

from med3d_components.data.dataset import ScanDataset
from med3d_components.transforms import RandBezierIntensityd, RandFlipsd, RandPaintd, RandPixelShuffled, distortion

DRAWS = 2000
DISTORTIONS = {
    "shuffle": RandPixelShuffled("image", prob=1.0, windows=500),
    "intensity": RandBezierIntensityd("image", prob=1.0),
    "noise": RandPaintd("image", prob=1.0, in_prob=0.5),
    "constant": RandPaintd("image", prob=1.0, in_prob=0.5, fill="constant"),
}
each_distortion = pytest.mark.parametrize("distort", DISTORTIONS.values(), ids=DISTORTIONS)


CURVES = {  # x of the two inner points, then y
    "usual": [[0.3, 0.6], [0.9, 0.2]],
    "crossed": [[0.8, 0.1], [0.4, 0.5]],
    "upright in the middle": [[1, 0], [0.3, 0.6]],
    "upright at the start": [[0, 0], [0.9, 0.2]],
    "upright at the end": [[1, 1], [0.1, 0.4]],
    "level": [[0.4, 0.9], [1, 0]],
}


def cube(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, *(size or (24, 28, 20)), generator=torch.Generator().manual_seed(seed))


def seeded(transform: Any, seed: int, image: torch.Tensor) -> torch.Tensor:
    return transform.set_random_state(seed)({"image": image})["image"]


def bezier(inner: np.ndarray, inverted: bool, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Restate the published samples of the map: the curve runs from (1, 1) down to (0, 0)."""
    t = np.linspace(0, 1, points)
    weights = [t**3, 3 * t**2 * (1 - t), 3 * t * (1 - t) ** 2, (1 - t) ** 3]
    corners = np.array([(0, 0), *inner, (1, 1)])
    x, y = (sum(value * weight for value, weight in zip(axis, weights, strict=True)) for axis in corners.T)
    return np.sort(x), y if inverted else np.sort(y)


def test_flips_go_on_with_the_published_probability() -> None:
    image = cube(4, 5, 6)
    transform = RandFlipsd("image").set_random_state(0)
    outcomes = {axes: image.flip(axes) for axes in ((), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3))}
    expected = dict.fromkeys(outcomes, 0.0)
    for flips, prob in ((0, 0.6), (1, 0.4 * 0.6), (2, 0.16 * 0.6), (3, 0.064)):
        for axes in product((1, 2, 3), repeat=flips):
            expected[tuple(axis for axis in (1, 2, 3) if axes.count(axis) % 2)] += prob / 3**flips
    found = dict.fromkeys(outcomes, 0)
    for _ in range(DRAWS):
        flipped = transform({"image": image})["image"]
        found[next(axes for axes, outcome in outcomes.items() if torch.equal(flipped, outcome))] += 1
    assert chisquare(list(found.values()), DRAWS * np.array(list(expected.values()))).pvalue > 0.01


def test_input_and_target_are_flipped_together_and_keep_their_place_in_the_world() -> None:
    affine = torch.tensor([[0.8, 0.1, 0, -5], [0, 1.1, 0, 7], [0.2, 0, 2, 9], [0, 0, 0, 1]], dtype=torch.float64)
    size = (4, 5, 6)
    voxels = torch.stack([*torch.meshgrid(*map(torch.arange, size), indexing="ij"), torch.ones(size)]).double()
    data = {"image": MetaTensor(torch.einsum("ij,j...->i...", affine, voxels)[:3], affine=affine)}
    data["target"] = data["image"].clone()
    transform = RandFlipsd(["image", "target"], prob=1.0)
    for seed in range(10):
        flipped = transform.set_random_state(seed)(data)
        assert torch.equal(flipped["image"].as_tensor(), flipped["target"].as_tensor())
        world = torch.einsum("ij,j...->i...", flipped["image"].affine, voxels)[:3]
        torch.testing.assert_close(world, flipped["image"].as_tensor())
        torch.testing.assert_close(flipped["target"].affine, flipped["image"].affine)
    assert torch.equal(data["image"].affine, affine)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("points", [*CURVES.values()], ids=CURVES)
def test_the_intensity_map_is_the_published_one(points: list[list[float]], inverted: bool) -> None:
    draws = np.array(points)
    transform = RandBezierIntensityd("image", prob=1.0)
    transform.R = FixedDraws(draws, 0.2 if inverted else 0.7)
    image = torch.cat([torch.linspace(0, 1, 4000), torch.logspace(-16, -1, 500), 1 - torch.logspace(-16, -1, 500)])
    image = image.double().reshape(1, 50, 10, 10)
    mapped = transform({"image": image})["image"]
    expected = np.interp(image.numpy(), *bezier(draws.T, inverted, 100_000))
    np.testing.assert_allclose(mapped.numpy(), expected, atol=1e-9)


class FixedDraws:
    """In place of a generator."""

    def __init__(self, points: np.ndarray, coin: float) -> None:
        self.points, self.coin = points, coin

    def rand(self) -> float:
        return 0.0

    def uniform(self, size: Any = None) -> Any:
        return self.coin if size is None else self.points


def test_the_intensity_maps_have_the_published_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distortion, "POINTS", 300)
    image = torch.tensor([0, 0.1, 0.5, 0.8, 1], dtype=torch.float64).reshape(1, 5, 1, 1)
    transform = RandBezierIntensityd("image").set_random_state(1)
    maps = np.stack([transform({"image": image})["image"].flatten().numpy() for _ in range(DRAWS)])
    changed = maps[~np.all(maps == image.flatten().numpy(), axis=1)]
    assert binomtest(len(changed), DRAWS, 0.9).pvalue > 0.01
    inverted = changed[:, 0] > 0.5
    assert binomtest(int(inverted.sum()), DRAWS, 0.45).pvalue > 0.01
    np.testing.assert_allclose(changed[inverted][:, [0, -1]], [[1, 0]] * inverted.sum(), atol=1e-12)
    np.testing.assert_allclose(changed[~inverted][:, [0, -1]], [[0, 1]] * (~inverted).sum(), atol=1e-12)
    assert (np.diff(changed[~inverted], axis=1) >= 0).all()
    rng = np.random.default_rng(0)
    for kind, group in ((True, changed[inverted]), (False, changed[~inverted])):
        samples = [np.interp(image.flatten(), *bezier(rng.random((2, 2)), kind, 300)) for _ in range(DRAWS)]
        for column in (1, 2, 3):
            assert ks_2samp(group[:, column], np.stack(samples)[:, column]).pvalue > 0.01


def test_values_beyond_the_range_by_rounding_are_taken_as_its_ends() -> None:
    image = torch.tensor([-1e-5, 0, 1, 1 + 1e-5]).reshape(1, 4, 1, 1)
    for seed in range(4):
        low, zero, one, high = seeded(DISTORTIONS["intensity"], seed, image).flatten().tolist()
        assert (low, high) == (zero, one)
        assert sorted((zero, one)) == pytest.approx([0, 1])


@each_distortion
def test_the_input_and_other_entries_stay_as_they_are(distort: Any) -> None:
    image = cube()
    data = {"image": image, "target": image, "case": "1"}
    for seed in range(4):
        result = distort.set_random_state(seed)(data)
        assert not torch.equal(result["image"], image)
        assert result["target"] is image
        assert result["case"] == "1"
        assert torch.equal(image, cube())
        result["image"].zero_()
        assert torch.equal(image, cube())


@each_distortion
def test_the_seed_tells_the_result(distort: Any) -> None:
    image = cube()
    assert torch.equal(seeded(distort, 5, image), seeded(distort, 5, image))
    assert not torch.equal(seeded(distort, 5, image), seeded(distort, 6, image))
    dataset = ScanDataset([{"image": image}], Compose([RandFlipsd("image"), distort]))
    assert torch.equal(dataset[0, 3]["image"], dataset[0, 3]["image"])
    assert not torch.equal(dataset[0, 3]["image"], dataset[0, 4]["image"])


@each_distortion
def test_all_keys_and_channels_are_distorted_alike(distort: Any) -> None:
    both = type(distort)(["image", "other"], prob=1.0).set_random_state(0)
    data = both({"image": cube().expand(2, -1, -1, -1), "other": cube()})
    for channel in data["image"]:
        assert torch.equal(channel, data["other"][0])


@each_distortion
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_type_the_affine_and_the_meta_data_are_kept(distort: Any, dtype: torch.dtype) -> None:
    affine = torch.diag(torch.tensor([-0.7, 0.7, 1.25, 1.0], dtype=torch.float64))
    image = MetaTensor(cube().to(dtype), affine=affine, meta={"filename_or_obj": "ct.nii"})
    distorted = seeded(distort, 0, image)
    assert isinstance(distorted, MetaTensor)
    assert distorted.dtype == dtype
    assert torch.equal(distorted.affine, affine)
    assert distorted.meta["filename_or_obj"] == "ct.nii"
    assert torch.equal(distorted.as_tensor(), seeded(distort, 0, image.as_tensor()))
    assert type(seeded(distort, 0, image.as_tensor())) is torch.Tensor


@each_distortion
def test_a_sample_is_distorted_with_the_given_probability(distort: Any) -> None:
    never = type(distort)("image", prob=0.0)
    image = cube()
    assert never({"image": image})["image"] is image
    with pytest.raises(ValueError, match=r"prob is 1\.2, but must be a probability, from 0 to 1"):
        type(distort)("image", prob=1.2)


@pytest.mark.gpu
@each_distortion
def test_a_gpu_gives_the_same(distort: Any) -> None:
    image = cube()
    on_gpu = seeded(distort, 0, image.cuda())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), seeded(distort, 0, image))


@pytest.mark.parametrize("distort", [*DISTORTIONS.values(), RandFlipsd("image")])
def test_volumes_that_do_not_fit_are_named(distort: Any) -> None:
    with pytest.raises(ValueError, match=r"image has the shape \(24, 28, 20\), but must be 4-D: \(C, H, W, D\)"):
        distort({"image": cube()[0]})
    both = type(distort)(["image", "other"])
    with pytest.raises(ValueError, match=r"other has the size \(24, 28, 21\), but image \(24, 28, 20\)"):
        both({"image": cube(), "other": cube(24, 28, 21)})
    with pytest.raises(KeyError):
        both({"image": cube()})


@pytest.mark.parametrize("transform", [RandBezierIntensityd("image", 0.0), RandPaintd("image", 0.0)])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (cube().to(torch.int16), r"image is torch\.int16, but must be floating point"),
        (cube() * 2000 - 1000, r"image has values from -[\d.]+ to 9[\d.]+, but must lie in \[0, 1\]"),
        (cube() / 0, "image has values from"),
        (cube() * torch.nan, "image has values from nan to nan"),
    ],
)
def test_intensities_outside_the_unit_range_are_refused_before_any_draw(
    transform: Any, image: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        transform({"image": image})


def test_impossible_flips_are_refused() -> None:
    with pytest.raises(ValueError, match="prob is -1, but"):
        RandFlipsd("image", prob=-1)
    with pytest.raises(ValueError, match="max_flips is 0, but must be 1 or more"):
        RandFlipsd("image", max_flips=0)
