"""Scans whose channels are files of their own, from the folder to the voxels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImage

from med3d_components.data import SegmentationDatalist
from med3d_components.data.channels import channel_names
from med3d_components.data.folders import list_images
from med3d_components.data.volumes import open_scan, read_header, read_volume, scan_files
from med3d_components.transforms import FastLoadImaged, SelectChanneld
from tests.conftest import MakeDomain
from tests.data.channel_files import two_channels
from tests.data.dicom_files import write_series

AFFINE = np.array([[-0.8, 0, 0, 12], [0, 0, 1.5, -30], [0, 2.0, 0, 7], [0, 0, 0, 1]])


def save(path: Path, seed: int = 0, affine: Any = AFFINE, shape: Sequence[int] = (9, 8, 7), kind: str = "<i2") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(0, 300, shape).astype(kind)
    nib.save(nib.Nifti1Image(values, affine), path)
    return str(path)


def save_case(folder: Path, case: str, channels: Sequence[int] = (0, 1), **options: Any) -> list[str]:
    return [save(folder / f"{case}_{number:04}.nii.gz", number, **options) for number in channels]


@pytest.mark.parametrize("kind", ["<i2", ">i2", "float32"])
def test_several_files_are_the_channels_that_monai_stacks_of_them(tmp_path: Path, kind: str) -> None:
    paths = save_case(tmp_path, "a", (0, 1, 2), kind=kind)
    ours = FastLoadImaged("image", ensure_channel_first=True)({"image": paths})["image"]
    stock = LoadImage(ensure_channel_first=True)(paths)
    assert torch.equal(ours.as_tensor(), stock.as_tensor())
    assert torch.equal(ours.affine, stock.affine)
    assert ours.meta["filename_or_obj"] == paths[0]


def test_files_of_channels_and_one_file_of_all_are_the_same_scan(tmp_path: Path) -> None:
    paths = save_case(tmp_path, "a")
    stacked = np.stack([np.asarray(nib.load(path).dataobj) for path in paths], axis=-1)
    nib.save(nib.Nifti1Image(stacked, AFFINE), tmp_path / "whole.nii.gz")
    whole = tmp_path / "whole.nii.gz"
    assert read_header(paths) == read_header(whole)
    np.testing.assert_array_equal(open_scan(paths).voxels(), open_scan(whole).voxels())
    for one, other in zip(read_volume(paths), read_volume(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_series_are_channels_too(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4), np.int16)
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, add in zip(paths, (0, 7), strict=True):
        write_series(path, volume + np.int16(add), np.eye(4))
    voxels = open_scan(paths).voxels()
    np.testing.assert_array_equal(voxels[..., 1] - voxels[..., 0], 7)
    assert len(scan_files(paths)) == 8


def moved(**changes: float) -> np.ndarray:
    affine = AFFINE.copy()
    for place, value in changes.items():
        affine[int(place[1]), int(place[2])] += value
    return affine


def test_channels_on_two_grids_are_refused_with_their_distance(tmp_path: Path) -> None:
    first = save(tmp_path / "a_0000.nii")
    far = save(tmp_path / "far.nii", affine=moved(_03=3, _13=4))
    with pytest.raises(ValueError, match=r"far\.nii lies up to 5 mm off .*a_0000\.nii, but both are channels of one"):
        open_scan([first, far])
    coarse = save(tmp_path / "coarse.nii", affine=moved(_00=-0.8))
    with pytest.raises(ValueError, match=r"coarse\.nii lies up to 6\.8 mm off"):  # 0.8 x 8.5 voxels
        open_scan([first, coarse])
    with pytest.raises(ValueError, match=r"have 9 x 8 x 7 and 9 x 8 x 6 voxels; resample one to the other\."):
        open_scan([first, save(tmp_path / "short.nii", shape=(9, 8, 6))])
    with pytest.raises(ValueError, match=r"four\.nii has 4 channels, but must have one, as one of 2 files"):
        open_scan([first, save(tmp_path / "four.nii", shape=(9, 8, 7, 4))])
    near = save(tmp_path / "near.nii", affine=moved(_03=0.05))  # a sixteenth of a voxel
    assert open_scan([first, near]).channels == 2


def test_a_channel_that_cannot_be_read_is_called_by_its_name(tmp_path: Path) -> None:
    paths = save_case(tmp_path, "a", shape=(40, 40, 40))
    content = bytearray(Path(paths[1]).read_bytes())
    content[len(content) // 2] ^= 255
    Path(paths[1]).write_bytes(content)
    with pytest.raises(ValueError, match=r"a_0001\.nii\.gz cannot be read") as error:
        open_scan(paths).voxels()
    assert "a_0000" not in str(error.value)


def test_the_files_of_a_scan_are_those_of_all_its_channels(tmp_path: Path) -> None:
    paths = save_case(tmp_path, "a", (0, 1, 2))
    assert [str(file) for file in scan_files(paths)] == paths


def test_files_of_channels_are_listed_as_one_scan_and_a_missing_one_fails_that_scan_alone(tmp_path: Path) -> None:
    good = save_case(tmp_path, "good")
    nested = save_case(tmp_path / "b", "good")
    save_case(tmp_path, "half", (1,))
    save_case(tmp_path, "many", (0, 1, 2))
    save(tmp_path / "good_seg.nii.gz")
    whole = save(tmp_path / "case_0007.nii.gz", shape=(9, 8, 7, 2))  # four digits, but all channels
    items = {item.pop("case"): item for item in list_images(tmp_path, in_channels=2)}
    assert items.pop("good") == {"image": good}
    assert items.pop("b/good") == {"image": nested}
    assert items.pop("case_0007") == {"image": whole}
    half = "2 channels are needed, but half has files for 1: give each of half_0000 to half_0001 and no more."
    assert items.pop("half")["error"] == half
    assert "many has files for 0, 1, 2" in items.pop("many")["error"]
    assert not items


def test_one_file_of_a_channel_stands_for_its_scan(tmp_path: Path) -> None:
    paths = save_case(tmp_path, "a")
    save_case(tmp_path, "ab")
    for path in paths:
        assert list_images(path, in_channels=2) == [{"image": paths, "case": "a"}]
    assert list_images(paths[1]) == [{"image": paths[1], "case": "a_0001"}]


def test_two_scans_of_one_name_are_refused(tmp_path: Path) -> None:
    save_case(tmp_path, "a")
    save(tmp_path / "a.nii.gz", shape=(9, 8, 7, 2))
    (item,) = list_images(tmp_path, in_channels=2)
    assert "have one name, a; rename one" in item["error"]


@pytest.mark.parametrize("layout", ["4-D", "list", "first", "nnU-Net 1"])
def test_a_training_takes_channels_in_all_layouts(tmp_path: Path, make_domain: MakeDomain, layout: str) -> None:
    folder = make_domain(tmp_path / "Brains")
    before = SegmentationDatalist(folder)
    two_channels(folder, layout)
    datalist = SegmentationDatalist(folder, in_channels=2)
    assert (datalist.channel, datalist.channel_names) == (None, ["channel 0", "channel 1"])
    for part in ("training", "validation"):
        cases, others = ([item["case"] for item in getattr(one, part)] for one in (datalist, before))
        assert cases == others
    assert (datalist.spacing, datalist.roi_size) == (before.spacing, before.roi_size)
    load = FastLoadImaged("image", ensure_channel_first=True)
    for item in datalist.training:
        image = load(item)["image"]
        assert image.shape == (2, 24, 28, 20)
        np.testing.assert_allclose(image.numpy().sum(0), 500, atol=1e-3)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_another_number_of_channels_is_named_before_a_training(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "Brains")
    with pytest.raises(ValueError, match=r"case_0\.nii\.gz has 1 channel, but in_channels is 3; give each case"):
        SegmentationDatalist(folder, in_channels=3)
    two_channels(folder, "first")
    with pytest.raises(ValueError, match="3 channels are needed, but case_0 has files for 0, 1: give each of"):
        SegmentationDatalist(folder, in_channels=3)
    assert SegmentationDatalist(folder).training[0]["image"].endswith("_0000.nii.gz")  # what is listed, and no more
    (folder / "imagesTr" / "case_2_0000.nii.gz").unlink()
    with pytest.raises(ValueError, match="2 channels are needed, but case_2 has files for 1"):
        SegmentationDatalist(folder, in_channels=2)


def test_a_network_of_one_channel_sees_the_chosen_one_and_hears_of_the_others(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    folder = make_domain(tmp_path / "Brains")
    two_channels(folder, "list")
    edit(folder, modality={"0": "T1", "1": "T2"})
    with pytest.raises(ValueError, match=r"has 2 channels; say which to use, .* on all by --in_channels 2\."):
        SegmentationDatalist(folder)
    edit(folder, channel=1)
    datalist = SegmentationDatalist(folder)
    assert (datalist.channel, datalist.channel_names) == (1, ["T2"])
    both = SegmentationDatalist(folder, in_channels=2)
    assert (both.channel, both.channel_names) == (None, ["T1", "T2"])


def test_channels_are_called_as_the_archives_call_them() -> None:
    brain = {"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}}
    assert channel_names(brain["modality"], 4, None, "x") == ("FLAIR", "T1w", "t1gd", "T2w")
    assert channel_names(brain["modality"], 1, 2, "x") == ("t1gd",)
    assert channel_names({"0": "CT"}, 1, None, "x") == ("CT",)
    assert channel_names(["odd"], 1, None, "x") == ("image",)
    for wrong in ({"0": "a"}, {"0": "a", "2": "b"}, ["a", "b"], "CT"):
        with pytest.raises(ValueError, match=r"in_channels is 2, but x names the channels .*; correct one of both\."):
            channel_names(wrong, 2, None, "x")


def test_channels_in_another_order_than_that_of_the_weights_are_refused(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_domain(tmp_path / "Brains")
    two_channels(folder, "4-D")
    known: dict[str, Any] = {"in_channels": 2, "trained_channels": ["T2", "T1"]}
    assert SegmentationDatalist(folder, **known).channel_names == ["T2", "T1"]
    edit(folder, modality={"0": "T1", "1": "T2"})
    with pytest.raises(ValueError, match=r"calls the channels T1, T2, but the weights know them as T2, T1; bring"):
        SegmentationDatalist(folder, **known)
    edit(folder, modality={"0": "T2", "1": "T1"})
    SegmentationDatalist(folder, **known)
    assert "the weights know" not in caplog.text
    edit(folder, modality={"0": "T2-FLAIR", "1": "T1"})
    SegmentationDatalist(folder, **known)
    assert "calls the channels T2-FLAIR, T1, but the weights know them as T2, T1." in caplog.text


@pytest.mark.parametrize("wrong", [[], [1], 3, None, {}])
def test_an_image_that_is_no_path_is_one_line(tmp_path: Path, make_domain: MakeDomain, wrong: Any) -> None:
    folder = make_domain(tmp_path / "a")
    edit(folder, training=[{"image": wrong, "label": "labelsTr/case_0.nii.gz"}] * 2)
    with pytest.raises(ValueError, match=r"each the path of a file, but one is .* 'image' may be a list"):
        SegmentationDatalist(folder)


def test_a_missing_listed_file_is_named(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a")
    two_channels(folder, "list")
    (folder / "imagesTr" / "case_1_t2.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"case_1_t2\.nii\.gz does not exist"):
        SegmentationDatalist(folder, in_channels=2)


@pytest.mark.parametrize("layout", ["4-D", "list", "first", "nnU-Net 1"])
def test_one_channel_of_several_is_taken_from_all_layouts(tmp_path: Path, make_domain: MakeDomain, layout: str) -> None:
    folder = make_domain(tmp_path / "Brains")
    first = {item["case"]: nib.load(item["image"]).get_fdata() for item in SegmentationDatalist(folder).training}
    two_channels(folder, layout)
    for channel in (0, 1):
        edit(folder, channel=channel)
        datalist = SegmentationDatalist(folder)
        assert datalist.channel == channel
        load = Compose([FastLoadImaged("image", ensure_channel_first=True), SelectChanneld("image", datalist.channel)])
        for item in datalist.training:
            seen = 500 - first[item["case"]] if channel else first[item["case"]]
            np.testing.assert_allclose(load(item)["image"][0].numpy(), seen, atol=1e-3)


def test_a_channel_that_no_image_or_one_case_lacks_is_named_before_a_training(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    folder = make_domain(tmp_path / "Brains")
    edit(folder, channel=1)
    with pytest.raises(ValueError, match=r"names the channel 1, but all images have one channel, 0; list those"):
        SegmentationDatalist(folder)
    edit(folder, channel=0)
    assert SegmentationDatalist(folder).channel is None
    two_channels(folder, "first")
    edit(folder, channel=1)
    (folder / "imagesTr" / "case_2_0001.nii.gz").unlink()
    with pytest.raises(ValueError, match="2 channels are needed, but case_2 has files for 0: give each of case_2_0000"):
        SegmentationDatalist(folder)


def test_cases_that_are_called_by_four_digits_are_no_channels(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "Brains")
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for number, entry in enumerate(content["training"]):
        image = f"imagesTr/patient_{number:04}.nii.gz"
        (folder / entry["image"]).rename(folder / image)
        entry["image"] = image
    edit(folder, training=content["training"], channel=0)
    datalist = SegmentationDatalist(folder)
    assert datalist.channel is None
    assert {item["case"][:-1] for item in datalist.training} == {"patient_000"}


def test_of_numbered_files_the_channel_of_the_training_alone_is_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = save_case(tmp_path, "good")
    nested = save_case(tmp_path / "b", "good", (1, 3))
    save_case(tmp_path, "half", (0, 2))
    plain = save(tmp_path / "plain.nii.gz")
    whole = save(tmp_path / "case_0007.nii.gz", shape=(9, 8, 7, 2))
    items = {item.pop("case"): item for item in list_images(tmp_path, channel=1)}
    assert items.pop("good") == {"image": good[1]}
    assert items.pop("b/good") == {"image": nested[0]}
    assert items.pop("plain") == {"image": plain}
    assert items.pop("case_0007") == {"image": whole}
    assert items.pop("half")["error"] == "the channel 1 is needed, but half has files for 0, 2: give half_0001."
    assert not items
    assert "2 of 8 files are no scans: the model sees the channel 1 alone." in caplog.text
    for path in good:
        assert list_images(path, channel=1) == [{"image": good[1], "case": "good"}]


@pytest.mark.parametrize("axes", ["LPS", "RAI", "SLA", "PIR"])
def test_a_channel_whose_axes_run_otherwise_is_turned_without_loss(tmp_path: Path, axes: str) -> None:
    paths = save_case(tmp_path, "a", (0, 1, 2))
    expected, affine = read_volume(paths)
    images = [nib.load(path) for path in paths]
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(images[1].affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    paths[1] = str(tmp_path / "turned.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(images[1].dataobj), images[1].affine).as_reoriented(turn), paths[1])
    assert nib.aff2axcodes(nib.load(paths[1]).affine) == tuple(axes)
    voxels, place = read_volume(paths)
    np.testing.assert_array_equal(voxels, expected)
    np.testing.assert_array_equal(place, affine)
    moved_away = nib.load(paths[1])
    nib.save(nib.Nifti1Image(moved_away.dataobj, moved_away.affine + moved(_03=5) - AFFINE), tmp_path / "off.nii")
    with pytest.raises(ValueError, match=r"off\.nii lies up to 5 mm off .*a_0000\.nii\.gz, but both are channels"):
        open_scan([paths[0], tmp_path / "off.nii"])
