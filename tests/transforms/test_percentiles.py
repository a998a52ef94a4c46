from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ClipIntensityPercentilesd

from med3d_components.transforms import FastClipIntensityPercentilesd
from med3d_components.transforms.percentiles import large_percentiles

AFFINE = np.diag([-0.8, -0.8, 2.5, 1.0])


@pytest.mark.parametrize("size", [(1, 60, 50, 40), (1, 128, 100, 90)], ids=["small", "large"])
@pytest.mark.parametrize("ties", [True, False])
def test_clipping_is_that_of_monai(size: tuple[int, ...], ties: bool) -> None:
    noise = 300 * torch.randn(size, generator=torch.Generator().manual_seed(0))
    image = MetaTensor(noise.round().clamp(-400) if ties else noise, affine=torch.as_tensor(AFFINE))
    before = image.clone()
    ours, stock = (
        clip("image", 0.5, 99.5)({"image": image})["image"]
        for clip in (FastClipIntensityPercentilesd, ClipIntensityPercentilesd)
    )
    assert ours.dtype == stock.dtype
    assert torch.equal(ours.affine, image.affine)
    assert torch.equal(image, before)
    if ties or noise.numel() < 1_000_000:
        assert torch.equal(ours.as_tensor(), stock.as_tensor())
    else:  # numpy's rank of a million is a single-precision number
        assert torch.allclose(ours.as_tensor(), stock.as_tensor(), atol=0.05)


def test_integers_are_clipped_as_float32() -> None:
    clipped = FastClipIntensityPercentilesd("image", 0, 50)({"image": torch.arange(11)})["image"]
    assert clipped.dtype == torch.float32
    assert clipped.max() == 5


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 5000, 200_001])
@pytest.mark.parametrize("order", ["random", "sorted", "reversed", "one value", "periodic"])
def test_percentiles_are_exact_whatever_the_order(count: int, order: str) -> None:
    values = np.random.default_rng(count).normal(0, 1, count).astype(np.float32)
    values = {
        "random": values,
        "sorted": np.sort(values),
        "reversed": np.sort(values)[::-1],
        "one value": np.full_like(values, 7),
        "periodic": np.where(np.arange(count) % 64 == 0, values + 50, values),  # a sample of nothing but outliers
    }[order]
    percents = (0, 0.5, 31.7, 50, 99.5, 100)
    expected = np.percentile(values.astype(np.float64), percents)
    np.testing.assert_allclose(large_percentiles(values, percents), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("limits", [(-1, 50), (60, 50), (0, 101), (float("nan"), 5)])
def test_percentiles_out_of_order_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be in order and from 0 to 100"):
        FastClipIntensityPercentilesd("image", *limits)
