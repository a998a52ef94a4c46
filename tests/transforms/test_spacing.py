from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor, decollate_batch
from monai.transforms import Compose, EnsureChannelFirstd, Flipd, Invertd, LoadImaged, Orientationd, Spacingd

from med3d_components.transforms.spacing import MAX_VOXELS, MedianSpacing, MedianSpacingd, is_label_key

SHAPE = (36, 30, 14)


def rotation(degrees, axes):
    angle, matrix = np.deg2rad(degrees), np.eye(4)
    (i, j), cos, sin = axes, np.cos(angle), np.sin(angle)
    matrix[[i, i, j, j], [i, j, i, j]] = cos, -sin, sin, cos
    return matrix


AFFINES = {
    "anisotropic": np.diag([0.8, 0.9, 3.0, 1.0]),
    "flipped": np.diag([-0.8, 0.9, -3.0, 1.0]),
    "oblique": rotation(20, (0, 1)) @ rotation(-15, (1, 2)) @ np.diag([0.8, 0.9, 3.0, 1.0]),
}
for matrix in AFFINES.values():
    matrix[:3, 3] = [-11.0, 7.5, 30.0]


def world_grid(volume):
    """Return the physical position of every voxel's centre, of shape (H, W, D, 3)."""
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in volume.shape[1:]], indexing="ij"), dim=-1).double()
    return index @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def centre(volume):
    """Return a volume's centre of mass in mm."""
    weights = volume.as_tensor()[0].double()[..., None]
    return (world_grid(volume) * weights).sum(dim=(0, 1, 2)) / weights.sum()


def blob(affine=AFFINES["anisotropic"], shape=SHAPE, width=4.0):
    """Make a Gaussian around a physical point that is no voxel's centre."""
    volume = MetaTensor(torch.zeros(1, *shape), affine=torch.as_tensor(affine))
    point = volume.affine @ torch.tensor([*(0.47 * n for n in shape), 1.0], dtype=torch.float64)
    distance = ((world_grid(volume) - point[:3]) ** 2).sum(dim=-1)
    return MetaTensor(torch.exp(-distance / (2 * width**2)).float()[None], affine=volume.affine), point[:3]


def volume_like(values, spacing=(1.0, 1.0, 1.0)):
    return MetaTensor(values, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))


@pytest.fixture
def nifti(tmp_path):
    """Write an oblique CT-like volume and a label of three classes, and return their paths."""
    generator = np.random.default_rng(0)
    image, label = generator.normal(size=SHAPE).cumsum(0).astype(np.float32), np.zeros(SHAPE, np.uint8)
    label[5:30, 5:20, 3:10], label[12:20, 10:16, 5:8] = 1, 2
    for name, values in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(values, AFFINES["oblique"]), tmp_path / f"{name}.nii.gz")
    return {name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "label")}


@pytest.mark.parametrize("target", [(0.5, 0.7, 1.1), (1.7, 2.1, 1.9), (1.0, 1.0, 5.0)], ids=str)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_an_object_keeps_its_physical_centre(affine, mode, target):
    volume, point = blob(affine)

    resampled = MedianSpacing(target, mode)(volume)

    voxels = (centre(resampled) - point).abs() / min(target)
    assert voxels.max() < 0.1


@pytest.mark.parametrize("target", [(0.5, 0.7, 1.1), (1.7, 2.1, 1.9)], ids=str)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_objects_lie_where_spacing_of_monai_puts_them(affine, target):
    volume, _ = blob(affine)

    ours = MedianSpacingd("image", target)({"image": volume})["image"]
    theirs = Spacingd("image", target)({"image": volume})["image"]

    assert (centre(ours) - centre(theirs)).abs().max() / min(target) < 0.1
    size_difference = (torch.tensor(ours.shape[1:]) - torch.tensor(theirs.shape[1:])).abs()
    assert torch.all(size_difference * torch.tensor(target) < volume.pixdim)  # Spacingd gives up to a voxel away


def test_a_linear_ramp_along_the_world_keeps_its_values_at_each_position():
    volume = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.as_tensor(AFFINES["oblique"]))
    direction = torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64)
    ramp = MetaTensor((world_grid(volume) @ direction)[None].float(), affine=volume.affine)

    resampled = MedianSpacing((0.5, 1.3, 2.0))(ramp)

    expected = (world_grid(resampled) @ direction).float()
    inside = (slice(2, -2),) * 3  # voxels beyond the outermost centres repeat the border
    torch.testing.assert_close(resampled.as_tensor()[0][inside], expected[inside], atol=1e-3, rtol=0)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_the_affine_holds_the_spacing_reached_and_keeps_directions_and_outer_borders(affine):
    volume = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.as_tensor(affine))

    resampled = MedianSpacing((1.1, 0.5, 2.0))(volume)

    assert resampled.shape == (1, 26, 54, 21)  # 36 * 0.8 / 1.1, 30 * 0.9 / 0.5, 14 * 3 / 2
    reached = volume.pixdim * torch.tensor(SHAPE) / torch.tensor(resampled.shape[1:])
    torch.testing.assert_close(resampled.pixdim, reached)
    torch.testing.assert_close(
        resampled.affine[:3, :3] / resampled.pixdim, volume.affine[:3, :3] / volume.pixdim, atol=1e-12, rtol=0
    )
    for corner in (0.0, 1.0):
        borders = [
            x.affine @ torch.tensor([*(n * corner - 0.5 for n in x.shape[1:]), 1.0], dtype=torch.float64)
            for x in (volume, resampled)
        ]
        torch.testing.assert_close(borders[0], borders[1], atol=1e-9, rtol=0)


def test_a_volume_thinner_than_half_a_target_voxel_keeps_one_slice():
    resampled = MedianSpacing((1.0, 1.0, 10.0))(volume_like(torch.ones(1, 6, 6, 2)))

    assert resampled.shape == (1, 6, 6, 1)
    assert resampled.pixdim[2] == 2.0


def test_the_mapping_gives_each_domain_its_spacing():
    transform = MedianSpacingd("image", {"spleen": (2, 2, 2), "liver": (1, 1, 4)})
    volume = volume_like(torch.zeros(1, 8, 8, 8))

    assert transform({"image": volume, "domain": "spleen"})["image"].shape == (1, 4, 4, 4)
    assert transform({"image": volume, "domain": "liver"})["image"].shape == (1, 8, 8, 2)


def test_one_spacing_serves_samples_of_any_domain_and_of_none():
    volume = volume_like(torch.zeros(1, 8, 8, 8))

    for transform in (MedianSpacingd("image", (2, 2, 2)), MedianSpacingd("image", {"spleen": (2, 2, 2)})):
        assert transform({"image": volume})["image"].shape == (1, 4, 4, 4)
    assert MedianSpacingd("image", (2, 2, 2))({"image": volume, "domain": "any"})["image"].shape == (1, 4, 4, 4)


def test_a_sample_of_an_unknown_or_missing_domain_is_refused_with_the_known_names():
    volume = volume_like(torch.zeros(1, 8, 8, 8))
    transform = MedianSpacingd("image", {"spleen": (2, 2, 2), "liver": (1, 1, 4)}, domain_key="organ")

    with pytest.raises(ValueError, match=r"There is no domain 'lung'; known are spleen, liver\."):
        transform({"image": volume, "organ": "lung"})
    with pytest.raises(ValueError, match=r"has no 'organ' entry, and there are several domains: spleen, liver\."):
        transform({"image": volume, "domain": "spleen"})


def test_labels_take_nearest_and_images_linear_interpolation_unless_told_otherwise():
    values = torch.randint(0, 2, (1, 9, 9, 9)).float() * 4
    data = {key: volume_like(values) for key in ("image", "label", "organ_mask")}

    default = MedianSpacingd(list(data), (0.7, 0.7, 0.7))(data)
    assert len(default["image"].unique()) > 2
    assert default["label"].unique().tolist() == default["organ_mask"].unique().tolist() == [0, 4]

    chosen = MedianSpacingd(list(data), (0.7, 0.7, 0.7), mode=["nearest", "bilinear", None])(data)
    assert len(chosen["label"].unique()) > 2
    assert chosen["image"].unique().tolist() == chosen["organ_mask"].unique().tolist() == [0, 4]
    assert is_label_key("Label")
    assert not is_label_key("image")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool, torch.float32, torch.float64])
def test_nearest_keeps_dtype_and_values_and_linear_gives_float32(dtype):
    top = 2**40 + 1 if dtype == torch.int64 else 1
    values = (torch.arange(64).reshape(1, 4, 4, 4) % 2 * top).to(dtype)
    finer, same = (0.5, 0.5, 0.4), (1.0, 1.0, 1.0)

    for spacing in (finer, same):
        nearest = MedianSpacing(spacing, "nearest")(volume_like(values))
        assert nearest.dtype == dtype
        assert set(nearest.unique().tolist()) == set(values.unique().tolist())
        assert MedianSpacing(spacing)(volume_like(values)).dtype == torch.float32


def test_channels_are_resampled_each_by_itself_and_a_permuted_volume_as_its_copy():
    values = torch.rand(2, 5, 7, 9)
    permuted = volume_like(values.permute(0, 3, 1, 2), (1, 2, 3))
    assert not permuted.is_contiguous()

    for mode in ("bilinear", "nearest"):
        transform = MedianSpacing((0.8, 3.0, 1.1), mode)
        resampled = transform(permuted)
        torch.testing.assert_close(resampled, transform(permuted.contiguous()))
        for channel in range(2):
            alone = transform(volume_like(permuted.as_tensor()[channel : channel + 1], (1, 2, 3)))
            torch.testing.assert_close(resampled[channel : channel + 1].as_tensor(), alone.as_tensor())


def test_a_volume_of_the_right_spacing_keeps_its_voxels_and_affine_and_can_be_inverted():
    volume = volume_like(torch.rand(1, 6, 7, 8), (1.0004, 1.0, 0.9996))
    transform = MedianSpacing((1.0, 1.0, 1.0))

    same = transform(volume)

    assert torch.equal(same.as_tensor(), volume.as_tensor())
    assert torch.equal(same.affine, volume.affine)
    assert len(same.applied_operations) == 1
    assert transform.inverse(same).applied_operations == []


def test_the_input_is_left_alone():
    volume = volume_like(torch.rand(1, 6, 7, 8))
    values, affine = volume.as_tensor().clone(), volume.affine.clone()

    MedianSpacingd("image", (0.5, 0.5, 3.0))({"image": volume})

    assert torch.equal(volume.as_tensor(), values)
    assert torch.equal(volume.affine, affine)
    assert volume.applied_operations == []


def test_an_image_and_a_label_whose_affines_differ_by_rounding_get_one_size():
    # 25 voxels of 1.5 mm and a target of 3 mm: 12.5 voxels, which rounding could send either way.
    image = volume_like(torch.rand(1, 25, 25, 25), (1.5 + 1e-6,) * 3)
    label = volume_like(torch.zeros(1, 25, 25, 25), (1.5 - 1e-6,) * 3)
    finer = volume_like(torch.zeros(1, 25, 25, 300), (1.5, 1.5, 0.125))

    out = MedianSpacingd(["image", "label", "fine_label"], (3, 3, 3))(
        {"image": image, "label": label, "fine_label": finer}
    )

    assert out["image"].shape == out["label"].shape == (1, 13, 13, 13)
    assert out["fine_label"].shape == (1, 12, 12, 12)


def test_files_load_with_extra_keys_and_both_invert_to_their_shape_and_affine(nifti):
    preprocessing = Compose(
        [
            LoadImaged(["image", "label"]),
            EnsureChannelFirstd(["image", "label"]),
            Orientationd(["image", "label"], axcodes="RAS", labels=None),
            MedianSpacingd(["image", "label"], {"spleen": (0.7, 0.7, 1.0)}),
        ]
    )
    extra = {"image_path": nifti["image"], "image_id": 7, "image_meta_dict": {"a": 1}, "label_weight": 0.5}

    data = preprocessing({**nifti, **extra, "domain": "spleen"})
    assert {key: data[key] for key in extra} == extra
    assert data["image"].shape == data["label"].shape == (1, 41, 39, 42)
    assert data["label"].unique().tolist() == [0, 1, 2]

    original = Compose(preprocessing.transforms[:2])(nifti)
    restored = preprocessing.inverse(data)
    for key in ("image", "label"):
        assert restored[key].shape == original[key].shape
        torch.testing.assert_close(restored[key].affine, original[key].affine, atol=1e-9, rtol=0)
    assert torch.equal(restored["label"].as_tensor(), original["label"].as_tensor())
    correlation = torch.corrcoef(torch.stack([x["image"].as_tensor().flatten() for x in (restored, original)]))[0, 1]
    assert correlation > 0.9


@pytest.mark.parametrize("nearest_interp", [True, False])
def test_a_prediction_is_inverted_by_the_trace_of_its_image_after_batching(nifti, nearest_interp):
    preprocessing = Compose(
        [
            LoadImaged(["image", "label"], ensure_channel_first=True),
            Orientationd(["image", "label"], axcodes="RAS", labels=None),
            MedianSpacingd(["image", "label"], {"spleen": (0.7, 0.7, 1.0), "liver": (9, 9, 9)}),
            Flipd(["image", "label"], spatial_axis=0),
        ]
    )
    loader = DataLoader([preprocessing({**nifti, "domain": "spleen"})] * 2, batch_size=2)
    batch = next(iter(loader))
    batch["pred"] = 0 * batch["image"] + batch["label"].as_tensor()
    invert = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=nearest_interp, to_tensor=True)

    original = LoadImaged("label", ensure_channel_first=True)(nifti)["label"]
    for sample in decollate_batch(batch):
        pred = invert(sample)["pred"]
        assert pred.shape == original.shape
        torch.testing.assert_close(pred.affine, original.affine, atol=1e-9, rtol=0)
        if nearest_interp:
            assert torch.equal(pred.as_tensor(), original.as_tensor().float())
        else:
            assert len(pred.unique()) > 3
            assert (pred.as_tensor() - original.as_tensor()).abs().mean() < 0.1


def test_the_spacing_of_the_header_follows_the_affine(nifti):
    data = MedianSpacingd("image", (2, 2, 2))(LoadImaged("image", ensure_channel_first=True)(nifti))

    np.testing.assert_allclose(data["image"].meta["pixdim"][1:4], data["image"].pixdim, rtol=1e-6)


def test_missing_keys_are_refused_or_skipped():
    volume = volume_like(torch.zeros(1, 4, 4, 4))

    with pytest.raises(KeyError, match="label"):
        MedianSpacingd(["image", "label"], (2, 2, 2))({"image": volume})
    out = MedianSpacingd(["image", "label"], (2, 2, 2), allow_missing_keys=True)({"image": volume})
    assert list(out) == ["image"]


@pytest.mark.parametrize("spacing", [1.5, (1, 1), (1, 1, 0), (1, -1, 1), (1, 1, float("nan"))], ids=str)
def test_a_spacing_that_is_not_three_positive_numbers_is_refused(spacing):
    with pytest.raises(ValueError, match="must be three positive numbers in mm"):
        MedianSpacing(spacing)
    with pytest.raises(ValueError, match="must be three positive numbers in mm"):
        MedianSpacingd("image", {"spleen": spacing})


def test_an_unknown_mode_or_an_empty_mapping_is_refused():
    with pytest.raises(ValueError, match="mode is 'cubic', but must be one of bilinear, nearest"):
        MedianSpacing((1, 1, 1), mode="cubic")
    with pytest.raises(ValueError, match="mode is 'linear'"):
        MedianSpacingd("image", (1, 1, 1), mode="linear")
    with pytest.raises(ValueError, match="spacing is an empty mapping"):
        MedianSpacingd("image", {})


@pytest.mark.parametrize("volume", [torch.zeros(1, 4, 4, 4), np.zeros((1, 4, 4, 4))], ids=["tensor", "array"])
def test_a_volume_without_an_affine_is_refused(volume):
    with pytest.raises(ValueError, match="without an affine, so its spacing is unknown; load it with LoadImaged"):
        MedianSpacingd("image", (1, 1, 1))({"image": volume})


def test_a_volume_without_a_channel_is_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 4, 4\), not \(C, H, W, D\); run EnsureChannelFirstd"):
        MedianSpacing((1, 1, 1))(volume_like(torch.zeros(4, 4, 4)))


@pytest.mark.parametrize("broken", [0.0, float("nan")])
def test_a_file_without_a_usable_spacing_is_named(broken):
    volume = volume_like(torch.zeros(1, 4, 4, 4), (1.0, broken, 1.0))
    volume.meta["filename_or_obj"] = "scan_7.nii.gz"

    with pytest.raises(ValueError, match=r"affine of scan_7\.nii\.gz gives the spacing .*file's header"):
        MedianSpacing((1, 1, 1))(volume)


@pytest.mark.gpu
def test_a_volume_on_the_gpu_stays_there_and_agrees_with_the_cpu():
    volume, _ = blob()

    for mode in ("bilinear", "nearest"):
        transform = MedianSpacing((0.5, 1.3, 2.0), mode)
        on_gpu = transform(volume.cuda())
        assert on_gpu.is_cuda
        torch.testing.assert_close(on_gpu.cpu().as_tensor(), transform(volume).as_tensor(), atol=1e-5, rtol=1e-5)
        assert transform.inverse(on_gpu).is_cuda


def test_a_volume_that_would_outgrow_the_memory_is_an_error_with_both_sizes():
    meta = {"filename_or_obj": "thick.nii"}
    thick = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.diag(torch.tensor([90.0, 90, 90, 1])), meta=meta)
    with pytest.raises(
        ValueError, match=r"thick\.nii would grow from 4 x 5 x 6 to 3600 x 4500 x 5400 voxels .* 90 x 90"
    ):
        MedianSpacing((0.1, 0.1, 0.1))(thick)
    wide = torch.zeros(1).expand(1, MAX_VOXELS // 2, 1, 1)
    with pytest.raises(ValueError, match=f"more than {MAX_VOXELS} in all"):
        MedianSpacing((1, 1, 0.3))(MetaTensor(wide))
