from __future__ import annotations

import pytest
import torch

from med3d_components.transforms import RandForegroundCropd, SelectChanneld
from med3d_components.transforms.per_domain import of_domain


def test_a_sample_without_a_domain_has_the_only_one_there_is() -> None:
    assert of_domain({"a": 1}, {}) == 1
    assert of_domain({"a": 1, "b": 2}, {"domain": "b"}) == 2
    with pytest.raises(ValueError, match="there are several domains: a, b"):
        of_domain({"a": 1, "b": 2}, {})
    with pytest.raises(ValueError, match="There is no domain 'c'; known are a"):
        of_domain({"a": 1}, {"domain": "c"})


def test_parameters_without_domains_hold_for_every_sample() -> None:
    image = torch.arange(2.0).reshape(2, 1, 1, 1).expand(2, 4, 4, 4)
    for sample in ({"image": image}, {"image": image, "domain": "a"}):
        assert SelectChanneld("image", 1)(sample)["image"].unique() == 1
    crop = RandForegroundCropd("image", (3, 4, 5), label_key="image").set_random_state(0)
    assert crop({"image": image[1:]})["image"].shape == (1, 3, 4, 5)
