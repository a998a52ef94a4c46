from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer

from med3d_components.inferers import (
    BodyWindowInferer,
    CascadeInferer,
    DomainSlidingWindowInferer,
    FastInferer,
    MirroredInferer,
)
from tests.inferers.test_cascade import BLOCK, Oracle, cascade, scan_with, with_affine

CLASSES = ["background", "liver"]


class Leaning(torch.nn.Module):
    """A network that sees more to the left of a volume than to its right; it takes a domain or none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv3d(1, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, domain: str = "") -> torch.Tensor:
        return self.layer(x) + torch.linspace(-1, 1, x.shape[2])[:, None, None]


def test_the_result_is_the_mean_of_the_probabilities_of_a_volume_and_of_its_mirror_image() -> None:
    x, network = torch.rand(2, 1, 9, 6, 5), Leaning()
    found = MirroredInferer(SimpleInferer(), CLASSES, mirror=True)(x, network)
    wanted = (network(x).softmax(1) + network(x.flip(2)).softmax(1).flip(2)) / 2
    torch.testing.assert_close(found.softmax(1), wanted)
    torch.testing.assert_close(found.exp(), wanted)
    assert not torch.allclose(found.softmax(1), network(x).softmax(1), atol=1e-3)


@pytest.mark.parametrize(
    ("inferer", "more"),
    [
        (BodyWindowInferer((8, 8, 8)), {}),
        (DomainSlidingWindowInferer({"liver": (8, 8, 8)}), {"domain": "liver"}),
    ],
    ids=["body", "domain"],
)
def test_the_mirror_image_of_a_scan_gets_the_mirror_image_of_its_result(inferer, more) -> None:
    x = torch.zeros(1, 1, 20, 14, 12)
    x[..., 3:16, 2:11, 1:10] = torch.rand(13, 9, 9) + 0.5
    scan, network = MetaTensor(x), Leaning()
    mirrored = FastInferer(MirroredInferer(inferer, CLASSES, mirror=True), precision="float32")
    with torch.no_grad():
        plain, other = (mirrored(each, network, **more) for each in (scan, scan.flip(2)))
    assert isinstance(plain, MetaTensor)
    torch.testing.assert_close(torch.as_tensor(other.flip(2)), torch.as_tensor(plain), atol=1e-4, rtol=1e-4)
    assert torch.equal(plain.affine, scan.affine)


def test_a_cascade_tells_the_regions_of_the_scan_not_of_its_mirror_image() -> None:
    inner = cascade()
    scan = with_affine(scan_with(BLOCK)[None])
    found = MirroredInferer(inner, CLASSES, mirror="true")(scan, Oracle())
    assert inner.regions == [((6, 24), (8, 22), (7, 13))]
    assert torch.equal(found.argmax(1), (scan > 0.5)[:, 0].long())
    assert isinstance(inner, CascadeInferer)


def test_without_mirror_it_is_the_other_inferer_whose_result_stays_as_it_is() -> None:
    x, network = torch.rand(1, 1, 6, 6, 6), Leaning()
    assert torch.equal(MirroredInferer(SimpleInferer(), ["background", "left lung"])(x, network), network(x))


def test_large_logits_give_no_infinity() -> None:
    x = torch.ones(1, 1, 4, 4, 4)
    found = MirroredInferer(SimpleInferer(), CLASSES, mirror=True)(x, lambda x: torch.cat([1e4 * x, -1e4 * x], 1))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, 0].exp(), torch.ones(1, 4, 4, 4))


def test_classes_that_name_a_side_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"mirror is true, but of the classes lung_left, lung_right some name a side"):
        MirroredInferer(SimpleInferer(), ["background", "lung_left", "lung_right"], mirror=True)
