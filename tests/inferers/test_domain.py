from __future__ import annotations

import torch

from med3d_components.inferers import DomainSlidingWindowInferer


def test_windows_have_the_size_of_the_domain_and_the_network_is_told_it() -> None:
    calls = []

    def network(x: torch.Tensor, domain: str) -> torch.Tensor:
        calls.append((tuple(x.shape[2:]), domain))
        return x

    image = torch.rand(1, 1, 20, 20, 20)
    inferer = DomainSlidingWindowInferer({"a": (16, 16, 16), "b": (24, 24, 24)})
    for domain in "ab":
        assert torch.allclose(inferer(image, network, domain=domain), image, atol=1e-6)
    assert set(calls) == {((16, 16, 16), "a"), ((24, 24, 24), "b")}
