from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import itk
import numpy as np
import pytest
from monai.transforms import LoadImage
from scipy.spatial.transform import Rotation

from med3d_components.data.dicom import is_dicom_folder, read_series, read_series_uid
from tests.data.dicom_files import write_series

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (20, 16, 9))
AXIAL = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 1.5, -100], [0, 0, 0, 1]])
TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix()
OBLIQUE = TURN @ AXIAL


def rename_tag(file: Path, old: tuple[int, int], new: tuple[int, int]) -> None:
    content = file.read_bytes()
    one, two = (struct.pack("<HH", *tag) for tag in (old, new))
    assert content[: content.index(b"MONOCHROME") + 100].count(one) == 1
    file.write_bytes(content.replace(one, two, 1))


@pytest.mark.parametrize("shuffle", [False, True], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_a_series_has_the_geometry_that_was_written_and_that_monai_reads(
    tmp_path: Path, affine: np.ndarray, shuffle: bool
) -> None:
    written = write_series(tmp_path, VOLUME, affine, patient="Patient 7", shuffle=shuffle)
    series = read_series(tmp_path)
    assert series.shape == VOLUME.shape
    assert (series.uid, series.patient, series.folder) == (written.uid, "Patient 7", tmp_path)
    assert series.instance_uids == tuple(written.instance_uids)
    assert ([file.name for file in series.files] == sorted(file.name for file in series.files)) is not shuffle
    np.testing.assert_allclose(series.affine, affine, atol=1e-5)
    image = LoadImage(reader="ITKReader")(tmp_path)
    np.testing.assert_array_equal(image.numpy(), VOLUME)
    np.testing.assert_allclose(series.affine, image.affine.numpy(), atol=1e-9)


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_itk_reads_neighbouring_files_as_that_part_of_the_volume(tmp_path: Path, affine: np.ndarray) -> None:
    write_series(tmp_path, VOLUME, affine, shuffle=True)
    series = read_series(tmp_path)
    part = itk.imread([str(file) for file in series.files[3:7]])
    np.testing.assert_array_equal(itk.array_from_image(part).T, VOLUME[:, :, 3:7])
    lps_to_ras = np.diag([-1, -1, 1])
    np.testing.assert_allclose(lps_to_ras @ part.GetOrigin(), (series.affine @ [0, 0, 3, 1])[:3], atol=1e-5)
    axes = lps_to_ras @ itk.array_from_matrix(part.GetDirection()) * np.asarray(part.GetSpacing())
    np.testing.assert_allclose(axes, series.affine[:3, :3], atol=1e-5)


def test_files_need_no_ending_and_others_do_not_disturb(tmp_path: Path) -> None:
    written = write_series(tmp_path, VOLUME, AXIAL, suffix=".dcm")
    for file in sorted(tmp_path.iterdir()):
        file.rename(file.with_suffix(""))
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    (tmp_path / "notes.xml").write_text("<a/>")
    (tmp_path / "below.dcm").mkdir()
    assert is_dicom_folder(tmp_path)
    assert read_series_uid(tmp_path) == written.uid
    assert len(read_series(tmp_path).files) == 9


def test_only_a_folder_that_holds_dicom_files_itself_is_one(tmp_path: Path) -> None:
    write_series(tmp_path / "series", VOLUME, AXIAL)
    (tmp_path / "ct.nii.gz").write_bytes(b"no DICOM" * 100)
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    assert is_dicom_folder(tmp_path / "series")
    assert not is_dicom_folder(tmp_path)
    assert not is_dicom_folder(tmp_path / "series" / "000001.dcm")
    assert not is_dicom_folder(tmp_path / "nowhere")


def test_a_missing_folder_and_one_without_dicom_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        read_series(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"{tmp_path} holds no DICOM file"):
        read_series(tmp_path)


def test_two_series_in_a_folder_are_named_with_their_counts(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, AXIAL, series_uid="1.2.3")
    write_series(tmp_path, VOLUME[:, :, :4], AXIAL, series_uid="1.2.4")
    with pytest.raises(ValueError, match=r"holds 2 series: 1\.2\.3 \(9 files\), 1\.2\.4 \(4 files\)"):
        read_series(tmp_path)


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_the_gap_of_a_missing_slice_is_told(tmp_path: Path, affine: np.ndarray) -> None:
    write_series(tmp_path, VOLUME, affine, leave_out=[4])
    with pytest.raises(ValueError, match=r"misses slices.*000004\.dcm.*000006\.dcm\) it is 3 mm, elsewhere 1\.5 mm"):
        read_series(tmp_path)


def test_positions_in_tenths_of_a_millimetre_are_even_enough(tmp_path: Path) -> None:
    for k, position in enumerate((0, 0.6, 1.3, 1.9, 2.5)):
        affine = np.diag([-1.0, -1, 0.625, 1])
        affine[2, 3] = position - 0.625 * k
        write_series(tmp_path, np.zeros((4, 4, 5)), affine, series_uid="1.2", leave_out=set(range(5)) - {k})
    assert read_series(tmp_path).shape == (4, 4, 5)


def test_the_place_of_a_gap_is_its_position(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, AXIAL, leave_out=[2, 3])
    with pytest.raises(ValueError, match=r"from -98\.5 mm \(000002\.dcm\) to -94 mm \(000005\.dcm\) it is 4\.5 mm"):
        read_series(tmp_path)


def test_a_slice_between_two_others_is_uneven(tmp_path: Path) -> None:
    shifted = AXIAL.copy()
    shifted[2, 3] += 1.5 * 8 + 0.7  # its only slice lies 0.7 mm above the last of the others
    write_series(tmp_path, VOLUME, AXIAL, series_uid="1.2.3")
    write_series(tmp_path, VOLUME[:, :, :1], shifted, series_uid="1.2.3")
    with pytest.raises(ValueError, match=r"unevenly spaced.* 0\.7 mm, elsewhere 1\.5 mm"):
        read_series(tmp_path)


def test_positions_that_were_rounded_are_even_enough(tmp_path: Path) -> None:
    for k in range(9):
        affine = AXIAL.copy()
        affine[2, 3] += 1.5 * k + (0.004 if k % 2 else -0.004)
        write_series(tmp_path, VOLUME[:, :, k : k + 1], affine, series_uid="1.2.3")
    np.testing.assert_allclose(read_series(tmp_path).affine, AXIAL, atol=0.005)


def test_two_slices_at_one_position_are_named(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, AXIAL)
    shutil.copy(tmp_path / "000003.dcm", tmp_path / "copy.dcm")
    with pytest.raises(ValueError, match=r"two slices at -97 mm, 000003\.dcm and copy\.dcm"):
        read_series(tmp_path)


def test_a_single_slice_is_no_volume(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME[:, :, :1], AXIAL)
    with pytest.raises(ValueError, match=r"single slice.*2 or more"):
        read_series(tmp_path)


OTHER_SPACING = AXIAL @ np.diag([1.1, 1, 1, 1])


@pytest.mark.parametrize(
    ("pixels", "affine", "message"),
    [
        (VOLUME[:18], AXIAL, "different size: 000001.dcm has 20 16, 000010.dcm has 18 16"),
        (VOLUME, OTHER_SPACING, "different pixel spacing: 000001.dcm has 0.7 0.8, 000010.dcm has 0.77 0.8"),
        (VOLUME, OBLIQUE, "different direction: 000001.dcm has"),
    ],
    ids=["size", "spacing", "direction"],
)
def test_slices_that_do_not_fit_each_other_are_named(
    tmp_path: Path, pixels: np.ndarray, affine: np.ndarray, message: str
) -> None:
    write_series(tmp_path, VOLUME, AXIAL, series_uid="1.2.3")
    write_series(tmp_path, pixels[:, :, :1], affine, series_uid="1.2.3")
    with pytest.raises(ValueError, match=message):
        read_series(tmp_path)


def test_slices_of_a_tilted_gantry_are_refused(tmp_path: Path) -> None:
    for k in range(9):
        affine = AXIAL.copy()
        affine[1:3, 3] += (0.3 * k, 1.5 * k)
        write_series(tmp_path, VOLUME[:, :, k : k + 1], affine, series_uid="1.2.3")
    with pytest.raises(ValueError, match=r"shifted sideways by up to 2\.4 mm"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("tag", "missing"),
    [((0x20, 0x32), "no position"), ((0x20, 0x37), "no orientation"), ((0x28, 0x30), "no pixel spacing")],
)
def test_a_slice_without_a_place_is_named(tmp_path: Path, tag: tuple[int, int], missing: str) -> None:
    write_series(tmp_path, VOLUME, AXIAL)
    rename_tag(tmp_path / "000005.dcm", tag, (tag[0], tag[1] + 1))
    with pytest.raises(ValueError, match=f"000005.dcm has {missing}"):
        read_series(tmp_path)


def test_a_file_of_several_slices_is_named(tmp_path: Path) -> None:
    image = itk.image_from_array(np.zeros((4, 16, 20), np.int16))
    tags = image.GetMetaDataDictionary()
    tags["0008|0016"] = "1.2.840.10008.5.1.4.1.1.2"
    itk.imwrite(image, str(tmp_path / "frames.dcm"), imageio=itk.GDCMImageIO.New())
    with pytest.raises(ValueError, match=r"frames\.dcm holds 4 slices"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda x: x[:-1], lambda x: x[: len(x) // 2], lambda x: x[:200], lambda x: x[:100], lambda x: b""],
    ids=["last byte", "half", "tags", "preamble", "empty"],
)
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_series(tmp_path, VOLUME, AXIAL)
    file = tmp_path / "000009.dcm"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"000009\.dcm is cut off or no DICOM image"):
        read_series(tmp_path)
