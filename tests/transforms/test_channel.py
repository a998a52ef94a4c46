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


def test_a_network_of_several_channels_sees_them_all_and_no_other_number() -> None:
    select = SelectChanneld("image", channel=None, in_channels=3)
    image = torch.rand(3, 4, 4, 4)
    assert select({"image": image})["image"] is image
    with pytest.raises(ValueError, match=r"the image has 1 channel, but the network takes 3: give a 4-D file of them"):
        select({"image": image[:1]})
    with pytest.raises(ValueError, match=r"the image has 2 channels, but the network takes 3"):
        select({"image": image[:2]})
