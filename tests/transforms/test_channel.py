from __future__ import annotations

import pytest
import torch

from med3d_components.transforms import SelectChanneld


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
