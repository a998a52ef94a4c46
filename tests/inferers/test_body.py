from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch.nn import functional as F

from med3d_components.inferers import BodyWindowInferer
from med3d_components.transforms.body import find_body

BOX = ((21, 50), (13, 40), (30, 62))


def scan(air: float = -1000, lung: float = -850, tissue: float = 40, noise: float = 20) -> torch.Tensor:
    """Make a scan (1, 1, 64, 60, 62): noise around that of air, a body in BOX with a lung that reaches its skin."""
    torch.manual_seed(0)
    volume = torch.full((1, 1, 64, 60, 62), float(air))
    volume[..., 21:50, 13:40, 30:] = tissue
    volume[..., 21:50, 13:26, 34:] = lung
    return volume + noise * torch.randn(volume.shape)


def z_score(volume: torch.Tensor) -> torch.Tensor:
    return (volume - volume.mean()) / volume.std()


SCANS = {
    "CT": scan(),
    "CT clipped and z-scored": z_score(scan().clamp(-1024, 60)),
    "CT from 0 to 1": ((scan() + 1000) / 2000).clamp(0, 1),
    "emphysema": scan(lung=-930),
    "MR": z_score(scan(air=0, lung=120, tissue=800, noise=25).abs()),
}


@pytest.mark.parametrize("name", SCANS)
def test_the_box_holds_the_body_and_little_else_whatever_the_normalisation(name: str) -> None:
    for (start, stop), (first, last), n in zip(BOX, find_body(SCANS[name]), (64, 60, 62), strict=True):
        assert 0 <= first <= start < stop <= last <= n
        assert start - first < 9
        assert last - stop < 9


@pytest.mark.parametrize("place", [(0, 0, 0), (61, 57, 59), (60, 0, 30)])
def test_a_small_part_anywhere_is_in_the_box(place: tuple[int, int, int]) -> None:
    volume = SCANS["CT"].clone()
    x, y, z = place
    volume[..., x : x + 4, y : y + 4, z : z + 4] = -100
    box = find_body(volume)
    assert all(first <= start < last for start, (first, last) in zip(place, box, strict=True))


def test_a_scan_without_air_or_without_anything_is_used_whole() -> None:
    tight = F.pad(SCANS["CT"][..., 21:50, 13:40, 30:], (4,) * 6, value=40)
    assert find_body(tight) == ((0, 37), (0, 35), (0, 40))
    assert find_body(torch.ones(1, 1, 9, 8, 3)) == ((0, 9), (0, 8), (0, 3))


@pytest.mark.parametrize("depth", [12, 16])
def test_a_scan_of_three_or_four_cubes_along_an_axis_is_no_picture_in_colour(depth: int) -> None:
    assert find_body(SCANS["CT"][..., -depth:]) == ((16, 56), (8, 44), (0, depth))


def test_the_box_is_around_the_bodies_of_all_volumes_of_a_batch() -> None:
    a, b = torch.zeros(2, 1, 1, 40, 40, 40)
    a[..., 8:12, 8:12, 8:12], b[..., 24:28, 24:28, 24:28] = 1, 100
    assert find_body(torch.cat([a, b])) == ((4, 32),) * 3


def network(x: torch.Tensor) -> torch.Tensor:
    """Tell tissue, of each voxel by itself, so that it is the same wherever the windows lie."""
    return torch.cat([-600 - x, x + 600], dim=1)


@pytest.mark.parametrize("window", [16, 32, 48, 80])
def test_the_mask_is_that_of_the_whole_scan(window: int) -> None:
    """Of windows larger than the box, or than the scan, too."""
    volume = SCANS["CT"]
    logits = BodyWindowInferer((window,) * 3)(volume, network)
    whole = SlidingWindowInferer((window,) * 3, mode="gaussian")(volume, network)
    assert logits.shape == whole.shape
    assert torch.equal(logits.argmax(1), whole.argmax(1))


def test_windows_lie_over_the_body_alone_and_see_no_padding() -> None:
    seen: list[torch.Tensor] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.extend(x)
        return network(x)

    def count(skip_air: bool | str) -> int:
        seen.clear()
        BodyWindowInferer((32, 32, 32), sw_batch_size=2, skip_air=skip_air)(SCANS["CT"], look)
        return len(seen)

    assert (count(True), count("false")) == (8, 27)
    BodyWindowInferer((48, 48, 48))(SCANS["CT"], look)
    assert not any((window == 0).any() for window in seen)


def test_meta_data_stay_with_the_logits() -> None:
    volume = MetaTensor(SCANS["CT"], affine=2 * torch.eye(4), meta={"filename_or_obj": "ct.nii.gz"})
    logits = BodyWindowInferer((32, 32, 32))(volume, network)
    assert isinstance(logits, MetaTensor)
    assert logits.meta["filename_or_obj"] == "ct.nii.gz"
    assert torch.equal(logits.affine, volume.affine)
    assert torch.equal(logits.as_tensor(), BodyWindowInferer((32, 32, 32))(SCANS["CT"], network))


def test_a_wrong_flag_is_an_error() -> None:
    with pytest.raises(ValueError, match="skip_air is 'yes', but must be true or false"):
        BodyWindowInferer((8, 8, 8), skip_air="yes")
