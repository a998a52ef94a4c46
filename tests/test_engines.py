from __future__ import annotations

import pytest
import torch

from med3d_components.engines import PrepareBatchDomain


def test_the_network_is_told_the_domain_of_the_batch() -> None:
    batch = {"image": torch.ones(2, 1, 4, 4, 4), "label": torch.zeros(2, 1, 4, 4, 4), "domain": ["liver", "liver"]}
    image, label, args, kwargs = PrepareBatchDomain()(batch)
    assert image.shape == label.shape
    assert (args, kwargs) == ((), {"domain": "liver"})


def test_a_batch_of_two_domains_is_an_error() -> None:
    batch = {"image": torch.ones(2, 1, 4, 4, 4), "label": torch.zeros(2, 1, 4, 4, 4), "domain": ["liver", "brain"]}
    with pytest.raises(ValueError, match="holds brain, liver"):
        PrepareBatchDomain()(batch)
