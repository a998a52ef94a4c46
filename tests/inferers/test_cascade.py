from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SlidingWindowInferer
from scipy.spatial.transform import Rotation

from med3d_components.inferers import CascadeInferer, FastInferer
from med3d_components.inferers.windows import BACKGROUND_LOGIT
from med3d_components.transforms.body import Box

SIZE = (40, 30, 20)
SPACING = (1.0, 2.0, 4.0)
BLOCK = ((10, 20), (10, 20), (8, 12))


class Oracle(torch.nn.Module):
    """Two networks that take what is bright for the organ; the fine one counts the voxels that it is shown."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.classes = classes
        self.voxels = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.voxels += x.numel()
        return torch.cat([0.5 - x, x - 0.5, *[x - 1.5] * (self.classes - 2)], dim=1)

    def locate(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - x, x - 0.5], dim=1)


class Convolutions(Oracle):
    """The oracle with a little of a random network, which sees across the borders of windows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 0.1 * self.layers(x)


def scan_with(*blocks: Box, size: Sequence[int] = SIZE, value: float = 1.0) -> torch.Tensor:
    """A dark scan (1, H, W, D) with bright blocks."""
    scan = torch.zeros(1, *size)
    for block in blocks:
        scan[0][tuple(slice(*edges) for edges in block)] = value
    return scan


def affine_of(spacing: Sequence[float], degrees: Sequence[float] = (0, 0, 0)) -> torch.Tensor:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 3] = (-120, 30, 7)
    return torch.from_numpy(affine)


def with_affine(scan: torch.Tensor, spacing: Sequence[float] = SPACING, file: str | None = None) -> MetaTensor:
    return MetaTensor(scan, affine=affine_of(spacing), meta={"filename_or_obj": file} if file else None)


def cascade(**settings: Any) -> Any:
    """Make a cascade; what it returns is of the class of its inputs, which its annotation does not say."""
    return CascadeInferer(**{"region": (24, 24, 24), "coarse_size": (20, 15, 10), "margin_mm": 4, **settings})


def inside(logits: torch.Tensor, region: Box | None) -> torch.Tensor:
    assert region is not None
    (a, b), (c, d), (e, f) = region
    return logits[..., a:b, c:d, e:f]


def is_background(logits: torch.Tensor) -> torch.Tensor:
    """Where logits (B, C, H, W, D) have the values of places without a say of the fine network."""
    return (logits[:, 0] == BACKGROUND_LOGIT) & (logits[:, 1:] == -BACKGROUND_LOGIT).all(1)


@pytest.mark.parametrize(
    ("margin_mm", "region"),
    [
        (0, BLOCK),
        (4, ((6, 24), (8, 22), (7, 13))),
        ((2, 4, 8), ((8, 22), (8, 22), (6, 14))),
        (3, ((7, 23), (8, 22), (7, 13))),  # 1.5 and 0.75 voxels, rounded outward
        (1000, ((0, 40), (0, 30), (0, 20))),
    ],
)
def test_the_region_is_the_organs_box_and_a_margin_in_mm(margin_mm: Any, region: Box) -> None:
    inferer = cascade(margin_mm=margin_mm)
    inferer(with_affine(scan_with(BLOCK)[None]), Oracle())
    assert inferer.regions == [region]


def test_a_coarse_voxel_covers_its_share_of_the_scan() -> None:
    inferer = cascade(coarse_size=(8, 8, 20), margin_mm=0)
    inferer(with_affine(scan_with(((6, 12), (15, 23), (8, 12)), size=(20, 30, 20))[None]), Oracle())
    assert inferer.regions == [((5, 13), (15, 23), (8, 12))]  # coarse 2 to 4 of 2.5 voxels, 4 to 5 of 3.75


def test_an_oblique_scan_has_the_region_of_a_straight_one() -> None:
    inferer = cascade()
    inferer(MetaTensor(scan_with(BLOCK)[None], affine=affine_of(SPACING, (20, -35, 50))), Oracle())
    assert inferer.regions == [((6, 24), (8, 22), (7, 13))]


def test_the_noise_of_an_affine_in_float32_adds_no_voxel() -> None:
    inferer = cascade(margin_mm=(7, 0.7, 2.1))
    affine = torch.diag(torch.tensor([0.7, 0.7, 0.7, 1.0], dtype=torch.float32)).double()
    inferer(MetaTensor(scan_with(BLOCK)[None], affine=affine), Oracle())
    assert inferer.regions == [((0, 30), (9, 21), (5, 15))]


def test_volumes_of_a_batch_have_regions_of_their_own_and_their_own_spacing() -> None:
    other = ((20, 30), (4, 10), (4, 8))
    scans = [with_affine(scan_with(BLOCK)), with_affine(scan_with(other), (2.0, 4.0, 1.0))]
    batch = list_data_collate(scans)
    assert batch.affine.shape == (2, 4, 4)
    inferer = cascade()
    result = inferer(batch, Oracle())
    assert inferer.regions == [((6, 24), (8, 22), (7, 13)), ((18, 32), (3, 11), (0, 12))]
    assert torch.equal(result.as_tensor().argmax(1)[:, None], batch.as_tensor().long())
    for single, scan in zip(decollate_batch(result), scans, strict=True):
        assert torch.equal(single.affine, scan.affine)


def test_one_affine_serves_a_whole_batch() -> None:
    inferer = cascade()
    inferer(MetaTensor(torch.stack([scan_with(BLOCK)] * 2), affine=affine_of(SPACING)), Oracle())
    assert inferer.regions == [((6, 24), (8, 22), (7, 13))] * 2


def test_a_plain_tensor_has_the_spacing_that_the_inferer_was_given() -> None:
    inferer = cascade(spacing=SPACING)
    result = inferer(scan_with(BLOCK)[None], Oracle())
    assert inferer.regions == [((6, 24), (8, 22), (7, 13))]
    assert type(result) is torch.Tensor


def test_a_plain_tensor_without_spacing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a Tensor without an affine, .* give the inferer their spacing"):
        cascade()(scan_with(BLOCK)[None], Oracle())


def test_outside_the_region_is_background_and_inside_are_the_logits_of_the_network() -> None:
    inferer = cascade()
    scan = with_affine(scan_with(BLOCK, value=0.9)[None])
    result = inferer(scan, Oracle(classes=3)).as_tensor()
    assert result.shape == (1, 3, *SIZE)
    assert result.dtype == torch.float32
    region = torch.zeros(1, *SIZE, dtype=torch.bool)
    inside(region, inferer.regions[0])[:] = True
    assert torch.equal(is_background(result), ~region)
    expected = inside(Oracle(classes=3)(scan.as_tensor()), inferer.regions[0])
    assert torch.allclose(inside(result, inferer.regions[0]), expected, atol=1e-5)
    assert result.softmax(1)[:, 1:][:, :, 0, 0, 0].max() < 1e-8


def test_no_organ_is_all_background_and_a_warning_that_names_the_file(caplog: pytest.LogCaptureFixture) -> None:
    inferer = cascade()
    batch = list_data_collate([with_affine(scan_with(), file="empty_1.nii"), with_affine(scan_with(), file="b.nii")])
    result = inferer(batch, Oracle(classes=3)).as_tensor()
    assert inferer.regions == [None, None]
    assert result.shape == (2, 3, *SIZE)
    assert is_background(result).all()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "empty_1.nii: the coarse stage found no organ" in caplog.text


def test_a_volume_without_an_organ_leaves_the_others_of_its_batch_alone(caplog: pytest.LogCaptureFixture) -> None:
    inferer = cascade(spacing=SPACING)
    result = inferer(torch.stack([scan_with(), scan_with(BLOCK)]), Oracle())
    assert inferer.regions == [None, ((6, 24), (8, 22), (7, 13))]
    assert is_background(result[:1]).all()
    assert torch.equal(result[1].argmax(0), scan_with(BLOCK)[0].long())
    assert "Volume 1 of the batch: the coarse stage" in caplog.text


def test_an_organ_that_only_the_coarse_stage_sees_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    network = Oracle()
    network.locate = lambda x: torch.cat([0.2 - x, x - 0.2], dim=1)  # type: ignore[method-assign]
    result = cascade()(with_affine(scan_with(BLOCK, value=0.4)[None], file="faint.nii"), network)
    assert not result.argmax(1).any()
    assert "faint.nii: the fine stage found no organ in the region ((6, 24)" in caplog.text


@pytest.mark.parametrize(
    "block", [((0, 10), (10, 20), (8, 12)), ((10, 20), (10, 20), (16, 20)), ((0, 40), (0, 30), (0, 20))]
)
def test_an_organ_at_the_border_is_segmented_and_the_log_says_so(block: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    result = cascade()(with_affine(scan_with(block)[None], file="cut.nii"), Oracle())
    assert torch.equal(result.as_tensor().argmax(1), scan_with(block).long())
    assert [(r.levelname, r.getMessage()[:35]) for r in caplog.records] == [
        ("INFO", "cut.nii: the region touches the bor")
    ]


def test_the_largest_of_two_blobs_is_the_organ() -> None:
    inferer = cascade()
    result = inferer(with_affine(scan_with(BLOCK, ((30, 34), (10, 18), (8, 12)))[None]), Oracle())
    assert inferer.regions == [((6, 24), (8, 22), (7, 13))]
    assert torch.equal(result.as_tensor().argmax(1), scan_with(BLOCK).long())


def test_what_is_apart_from_the_organ_inside_its_region_is_dropped() -> None:
    speck = ((22, 23), (10, 12), (8, 10))
    inferer = cascade()
    scan = with_affine(scan_with(BLOCK, speck)[None])
    result = inferer(scan, Oracle()).as_tensor()
    assert torch.equal(result.argmax(1), scan_with(BLOCK).long())
    assert is_background(inside(result, speck)).all()
    # Background that the network saw itself keeps its logits.
    assert not is_background(inside(result, ((6, 22), (8, 22), (7, 13)))).any()


def test_touching_classes_are_one_component() -> None:
    scan = scan_with(BLOCK)
    scan[0, 14:16, 10:20, 8:12] = 4.0  # a slab of another class cuts the organ in two
    network = Oracle(classes=3)
    network.forward = lambda x: torch.cat([0.5 - x, 1 - (x - 1).abs(), x - 2.5], dim=1)  # type: ignore[method-assign]
    labels = cascade()(with_affine(scan[None]), network).as_tensor().argmax(1)
    assert torch.equal(labels, (scan > 0).long() + (scan > 2).long())


@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_the_labels_are_nearly_those_of_sliding_over_the_scan(overlap: float) -> None:
    torch.manual_seed(1)
    scan = scan_with(((10, 30), (8, 22), (6, 16)))[None] + 0.2 * torch.randn(1, 1, *SIZE)
    network = Convolutions()
    inferer = cascade(overlap=overlap, spacing=(1, 1, 1))
    labels = inside(inferer(scan, network).argmax(1), inferer.regions[0])
    seen, network.voxels = network.voxels, 0
    with torch.no_grad():
        whole = SlidingWindowInferer((16, 16, 16), 4, overlap, mode="gaussian")(scan, network).argmax(1)
    whole = inside(whole, inferer.regions[0])
    assert 2 * (labels * whole).sum() / (labels + whole).sum() > 0.98
    assert seen < network.voxels


def test_a_region_smaller_than_the_window_is_seen_with_its_surroundings() -> None:
    network = Oracle()
    shown = []
    forward = network.forward
    network.forward = lambda x: (shown.append(x.clone()), forward(x))[1]  # type: ignore[method-assign]
    scan = scan_with(BLOCK)[None] + 0.25
    cascade(region=(16, 16, 16), margin_mm=0, spacing=SPACING)(scan, network)
    assert len(shown) == 1
    assert shown[0].min() == 0.25  # no zeros of padding


def test_a_part_of_the_margin_gives_way_where_that_saves_windows() -> None:
    """26 voxels of the second axis take two windows of 24; a margin of 7 instead of 8 voxels leaves 24."""
    inferer = cascade(margin_mm=16)
    inferer(with_affine(scan_with(BLOCK)[None]), Oracle())
    assert inferer.regions == [((0, 36), (3, 27), (4, 16))]


@pytest.mark.parametrize("size", [(9, 8, 7), (12, 30, 1), (1, 1, 1)])
def test_scans_smaller_than_the_window_work(size: tuple[int, int, int]) -> None:
    block = tuple((0, max(n // 2, 1)) for n in size)
    result = cascade(coarse_size=size, margin_mm=1)(with_affine(scan_with(block, size=size)[None]), Oracle())
    assert torch.equal(result.as_tensor().argmax(1), scan_with(block, size=size).long())


def test_the_networks_run_in_bfloat16_where_the_precision_asks_for_it() -> None:
    network = Convolutions()
    seen = []
    network.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    inferer = cascade()
    result = FastInferer(inferer, "bf16")(with_affine(scan_with(BLOCK)[None]), network)
    assert set(seen) == {torch.bfloat16}
    assert result.dtype == torch.float32
    assert inferer.regions == [((6, 24), (8, 22), (7, 13))]
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.as_tensor().argmax(1), scan_with(BLOCK).long())


def test_inputs_stay_as_they_are_and_no_gradients_are_kept() -> None:
    scan = scan_with(BLOCK, ((22, 23), (10, 12), (8, 10)))[None]
    before = scan.clone()
    result = cascade(spacing=SPACING)(scan, Convolutions())
    assert torch.equal(scan, before)
    assert not result.requires_grad


def test_further_arguments_reach_the_fine_network() -> None:
    network = Oracle()
    forward = network.forward
    network.forward = lambda x, sign, extra=0: sign * forward(x) + extra  # type: ignore[method-assign, misc]
    for scan in (scan_with(BLOCK), scan_with()):
        result = cascade(spacing=SPACING)(scan[None], network, 1, extra=0)
        assert torch.equal(result.argmax(1), scan.long())


@pytest.fixture
def process_group() -> Iterator[None]:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_distributed_network_is_run_without_waiting_for_other_processes() -> None:
    network = torch.nn.parallel.DistributedDataParallel(Convolutions())
    network.register_forward_pre_hook(lambda *_: pytest.fail("the wrapper was called"))
    assert cascade(spacing=SPACING)(scan_with(BLOCK)[None], network).argmax(1).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"region": (16, 16)}, r"region is \(16, 16\), but must be three positive whole numbers of voxels"),
        ({"region": (16, 0, 16)}, "region is .* positive"),
        ({"coarse_size": (20, 1.5, 10)}, "coarse_size is .* whole numbers"),
        ({"margin_mm": -1}, "margin_mm is -1, but must be one number of mm or three, 0 or more"),
        ({"margin_mm": (1, 2)}, "margin_mm is"),
        ({"margin_mm": float("nan")}, "margin_mm is nan"),
        ({"spacing": (1, 1, 0)}, "spacing is .* three positive numbers in mm"),
    ],
)
def test_a_wrong_setting_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cascade(**settings)


def test_a_network_without_a_coarse_stage_is_an_error() -> None:
    with pytest.raises(ValueError, match="The network is a Conv3d without `locate`"):
        cascade()(scan_with(BLOCK)[None], torch.nn.Conv3d(1, 2, 1))


def test_inputs_without_a_batch_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 40, 30, 20\), but must be of shape \(B, C, H, W, D\)"):
        cascade()(scan_with(BLOCK), Oracle())


def test_an_affine_without_a_spacing_is_an_error_that_names_the_file() -> None:
    with pytest.raises(ValueError, match=r"flat\.nii: the affine's spacing is \[1\.0, 0\.0, 4\.0\], but must be three"):
        cascade()(with_affine(scan_with(BLOCK)[None], (1, 0, 4), file="flat.nii"), Oracle())


@pytest.mark.parametrize("stage", ["locate", "forward"])
def test_a_stage_of_nan_is_an_error_and_no_missing_organ(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle()
    right = getattr(oracle, stage)
    monkeypatch.setattr(oracle, stage, lambda x: right(x) * float("nan"))
    with pytest.raises(ValueError, match=r"What the network gives for ct\.nii is NaN or infinite"):
        cascade()(with_affine(scan_with(BLOCK)[None], file="ct.nii"), oracle)
