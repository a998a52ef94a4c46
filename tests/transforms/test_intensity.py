from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ClipIntensityPercentilesd, Compose, NormalizeIntensityd

from med3d_components.transforms import ClipIntensityd, ZScored

PERCENTILES = (0.5, 99.5)


def normalise(image: torch.Tensor, intensity_range: tuple[float, float] | None = None) -> torch.Tensor:
    chain = Compose([ClipIntensityd("image", PERCENTILES, intensity_range), ZScored("image", intensity_range)])
    result: torch.Tensor = chain({"image": MetaTensor(image.clone())})["image"].as_tensor()
    return result


@pytest.mark.parametrize("size", [(20, 18, 16), (110, 100, 96)], ids=["small", "large"])
def test_each_channel_is_normalised_as_if_it_were_alone(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1.0, 1000.0, 0.01]).reshape(3, 1, 1, 1)
    image = scales * torch.randn((3, *size), generator=generator).exp() - 5
    together = normalise(image)
    for number in range(3):
        assert torch.equal(together[number : number + 1], normalise(image[number : number + 1]))
    stock = Compose(
        [
            ClipIntensityPercentilesd("image", *PERCENTILES, channel_wise=True),
            NormalizeIntensityd("image", channel_wise=True),
        ]
    )
    torch.testing.assert_close(together, stock({"image": image})["image"].as_tensor(), atol=1e-4, rtol=1e-4)


def test_all_channels_have_the_one_range() -> None:
    image = torch.tensor([[-200.0, 0.0, 200.0], [0.0, 100.0, 900.0]]).reshape(2, 3, 1, 1)
    expected = torch.tensor([[0.0, 0.5, 1.0], [0.5, 0.75, 1.0]]).reshape(2, 3, 1, 1)
    torch.testing.assert_close(normalise(image, (-200, 200)), expected)
