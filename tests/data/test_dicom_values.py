"""What numbers a series holds: slopes, frames, bits, compression, resampling."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import itk
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from med3d_components.data.dicom import find_series, read_series
from tests.data.dicom_files import Change, write_enhanced, write_slices
from tests.data.dicom_judges import (
    AXIAL,
    HU,
    OBLIQUE,
    STORED,
    assert_as_simpleitk_reads,
    corners,
    setting,
)


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    slopes = [1.0] + [0.0002] * 23
    stored = np.full((10, 8, 24), 17000)
    stored[:, :, 0] = 3
    stored[0] = np.arange(24) + 1
    write_slices(tmp_path, stored, AXIAL, setting(RescaleSlope=lambda k: slopes[k]), modality="PT")
    voxels = read_series(tmp_path).read()
    assert voxels[5, 5, 7] == pytest.approx(3.4)
    for k, file in enumerate(sorted(tmp_path.iterdir())):
        header = pydicom.dcmread(file)
        expected = header.pixel_array.T * float(header.RescaleSlope) + float(header.RescaleIntercept)
        np.testing.assert_allclose(voxels[:, :, k], expected, rtol=1e-6)


def test_files_without_preamble_and_ending_are_slices_as_others(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL, syntax=ImplicitVRLittleEndian)
    for k, file in enumerate(sorted(tmp_path.iterdir())):
        if k % 4 == 0:
            content = file.read_bytes()
            length = int.from_bytes(content[140:144], "little")
            file.with_suffix("").write_bytes(content[144 + length :])
            file.unlink()
    np.testing.assert_array_equal(read_series(tmp_path).read(), HU)


def linear(world: np.ndarray) -> np.ndarray:
    return world @ [1.0, -2.0, 3.0] + 500


@pytest.mark.parametrize(
    ("shift", "places"),
    [((0.0, 0.3), np.arange(24)), ((0.25, -0.9), np.arange(24)), ((0.0, 0.0), np.arange(24) ** 1.2)],
    ids=["tilt", "tilt both ways", "uneven"],
)
def test_a_tilted_or_uneven_series_is_refused_or_resampled_by_an_option(
    tmp_path: Path, shift: tuple[float, float], places: np.ndarray
) -> None:
    step = np.median(np.diff(places))
    for place in places:
        affine = np.diag([-0.7, -0.8, 1.5, 1])
        affine[:3, 3] = (shift[0] * place, shift[1] * place, 1.5 * place)
        index = np.stack(np.meshgrid(np.arange(40), np.arange(30), [0], indexing="ij"), axis=-1)
        stored = np.round(10 * linear(apply_affine(affine, index))).astype(int)
        change = setting(RescaleSlope=0.1, RescaleIntercept=0)
        write_slices(tmp_path, stored, affine, change, uid="1.2.3")
    with pytest.raises(ValueError, match="unevenly spaced" if shift == (0, 0) else "shifted sideways"):
        read_series(tmp_path)
    series = read_series(tmp_path, resample=True)
    assert [one.path for one in find_series(tmp_path, resample=True).series] == [str(tmp_path)]
    np.testing.assert_allclose(np.linalg.norm(series.affine[:3, :3], axis=0), [0.7, 0.8, 1.5 * step], atol=1e-5)
    voxels = series.read()
    world = apply_affine(series.affine, np.moveaxis(np.indices(series.shape), 0, -1))
    beyond = np.subtract(series.shape, (40, 30, 0))
    inside = tuple(slice(extra, length - 1) for extra, length in zip(beyond[:2], (40, 30), strict=True))
    np.testing.assert_allclose(voxels[inside], linear(world)[inside], atol=0.06)  # stored in tenths
    first = voxels[:, :, 0]
    assert np.count_nonzero(first > -1024) == 40 * 30
    np.testing.assert_allclose(first[first > -1024], linear(world)[:, :, 0][first > -1024], atol=0.06)
    box = (slice(3, 9), slice(2, 20), slice(5, 11))
    np.testing.assert_array_equal(series.read(box), voxels[box])


def test_a_resampled_volume_does_not_grow_beyond_bounds(tmp_path: Path) -> None:
    places = [0, 1, 2, 1000]
    for place in places:
        affine = AXIAL.copy()
        affine[2, 3] += place
        write_slices(tmp_path, STORED[:, :, :1], affine, uid="1.2.3")
    with pytest.raises(ValueError, match="it would have 10 x 8 x 1001 voxels, more than 8 times"):
        read_series(tmp_path, resample=True)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_frames_of_an_enhanced_file_have_their_own_place_and_slope(tmp_path: Path, modality: str) -> None:
    order = np.random.default_rng(2).permutation(24)

    def change(group: Dataset, k: int) -> None:
        values = group.PixelValueTransformationSequence[0]
        values.RescaleSlope, values.RescaleIntercept = 1 + k / 8, -k
        place = (OBLIQUE @ [0, 0, order[k], 1])[:3] * [-1, -1, 1]
        group.PlanePositionSequence[0].ImagePositionPatient = place.round(6).tolist()

    write_enhanced(tmp_path / "frames", STORED, OBLIQUE, modality, change)
    series = read_series(tmp_path)
    assert (series.modality, series.shape, series.files) == (modality, STORED.shape, (tmp_path / "frames",))
    expected = np.empty(STORED.shape)
    expected[:, :, order] = STORED * (1 + np.arange(24) / 8) - np.arange(24)
    np.testing.assert_allclose(series.read(), expected, rtol=1e-6)
    np.testing.assert_array_equal(series.read((slice(2, 5), slice(0, 8), slice(7, 9))), series.read()[2:5, :, 7:9])
    np.testing.assert_allclose(corners(series.shape, series.affine), corners(STORED.shape, OBLIQUE), atol=0.01)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_simpleitk_reads_a_plain_enhanced_file_alike(tmp_path: Path, modality: str) -> None:
    write_enhanced(tmp_path / "frames.dcm", STORED, OBLIQUE, modality)
    assert_as_simpleitk_reads(read_series(tmp_path))


def test_an_enhanced_file_of_gdcm_is_read(tmp_path: Path) -> None:
    image = itk.image_from_array(np.ascontiguousarray(HU.T.astype(np.int16)))
    image.SetSpacing([0.5, 0.6, 2.0])
    image.GetMetaDataDictionary()["0008|0016"] = "1.2.840.10008.5.1.4.1.1.2"
    itk.imwrite(image, str(tmp_path / "frames.dcm"), imageio=itk.GDCMImageIO.New())
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.read(), HU)
    np.testing.assert_allclose(series.affine, np.diag([-0.5, -0.6, 2, 1]))


ENHANCED_PARTS: dict[str, Callable[[Dataset, int], object]] = {
    "temporal position 2": lambda group, part: setattr(group.FrameContentSequence[0], "TemporalPositionIndex", part),
    "stack 2": lambda group, part: setattr(group.FrameContentSequence[0], "StackID", str(part)),
    "dimension 1 2": lambda group, part: setattr(
        group.FrameContentSequence[0],
        "DimensionIndexValues",
        [part, group.FrameContentSequence[0].DimensionIndexValues[1]],
    ),
}


@pytest.mark.parametrize(("part", "mark"), ENHANCED_PARTS.items(), ids=ENHANCED_PARTS)
def test_volumes_in_one_enhanced_file_are_told_apart(
    tmp_path: Path, part: str, mark: Callable[[Dataset, int], object]
) -> None:
    def change(group: Dataset, k: int) -> None:
        place = (AXIAL @ [0, 0, k % 12, 1])[:3] * [-1, -1, 1]
        group.PlanePositionSequence[0].ImagePositionPatient = place.round(6).tolist()
        group.FrameContentSequence[0].DimensionIndexValues = [1, k % 12 + 1]
        mark(group, 1 + k // 12)

    uid = write_enhanced(tmp_path / "frames.dcm", STORED, AXIAL, "MR", change)
    series = {one.part: one for one in find_series(tmp_path).series}
    assert len(series) == 2
    assert series[part].path == f"{tmp_path}::{uid}_{part.replace(' ', '_')}"
    np.testing.assert_array_equal(read_series(series[part].path).read(), STORED[:, :, 12:])


def test_a_single_slice_alone_is_a_volume_of_its_thickness(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :1], AXIAL)
    series = find_series(tmp_path).series[0]
    np.testing.assert_array_equal(series.read(), HU[:, :, :1])
    np.testing.assert_allclose(series.affine, AXIAL, atol=1e-5)


def test_a_single_slice_is_passed_over_only_beside_a_volume_of_its_study(tmp_path: Path) -> None:
    volume = write_slices(tmp_path / "a" / "ct", STORED, AXIAL)
    study = pydicom.dcmread(tmp_path / "a" / "ct" / "000001.dcm").StudyInstanceUID
    write_slices(tmp_path / "a" / "scout", STORED[:, :, :1], AXIAL, setting(StudyInstanceUID=study))
    single = write_slices(tmp_path / "b", STORED[:, :, :1], AXIAL)
    write_slices(tmp_path / "c", STORED[:, :, :1], AXIAL, setting(SliceThickness=None))
    write_slices(tmp_path / "d", STORED[:, :, :2], AXIAL, setting(StudyInstanceUID=""))
    write_slices(tmp_path / "d", STORED[:, :, :1], AXIAL, setting(StudyInstanceUID=""))
    other = write_slices(tmp_path / "e", STORED[:, :, :1], AXIAL, setting(StudyInstanceUID=study, PatientID="P8"))
    found = find_series(tmp_path)
    places = {series.uid: Path(series.path).name for series in found.series}
    assert places.pop(volume) == "ct"
    assert places.pop(single) == "b"
    assert places.pop(other) == "e"
    assert list(places.values()) == ["d"]
    assert [(path, "without SliceThickness" in reason) for path, reason in found.failures] == [(f"{tmp_path}/c", True)]
    assert found.notes == [f"passed over 2 x single slice, first {tmp_path}/a/scout/000001.dcm"]
    for series in found.series:
        np.testing.assert_array_equal(read_series(series.path).read(), HU[:, :, : series.shape[2]])


def test_a_single_slice_of_unknown_thickness_is_named(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :1], AXIAL, setting(SliceThickness=None))
    with pytest.raises(ValueError, match=r"000001\.dcm is a single slice without SliceThickness"):
        read_series(tmp_path)


def test_the_units_of_ct_and_pet_hold_whatever_is_shown_as_white(tmp_path: Path) -> None:
    for modality, expected in (("CT", HU), ("PT", STORED)):
        write_slices(tmp_path / modality, STORED, AXIAL, setting(PhotometricInterpretation="MONOCHROME1"), modality)
        np.testing.assert_array_equal(read_series(tmp_path / modality).read(), expected)


@pytest.mark.parametrize("low", [0, -1000])
def test_what_is_bright_in_an_inverted_mr_is_high_as_simpleitk_has_it(tmp_path: Path, low: int) -> None:
    write_slices(tmp_path, STORED + low, AXIAL, setting(PhotometricInterpretation="MONOCHROME1"), "MR")
    series = read_series(tmp_path)
    assert np.corrcoef(series.read().ravel(), STORED.ravel())[0, 1] == pytest.approx(-1)
    assert_as_simpleitk_reads(series)


SIGNED = STORED - 1000


def in_bits(bits: int, high: int) -> Change:
    """Return a change to values of fewer bits, whose neighbours in the 16 hold something else."""

    def change(header: Dataset, k: int) -> None:
        values = np.frombuffer(header.PixelData, "<i2").astype(np.uint16)
        junk = np.uint16(~(((1 << bits) - 1) << (high + 1 - bits)) & 0xFFFF)
        header.PixelData = (((values & ((1 << bits) - 1)) << (high + 1 - bits)) | junk).tobytes()
        header.BitsStored, header.HighBit = bits, high

    return change


@pytest.mark.parametrize(("bits", "high"), [(12, 11), (12, 15), (13, 13)])
@pytest.mark.parametrize("stored", [STORED, SIGNED], ids=["unsigned", "signed"])
def test_bits_beside_the_value_do_not_count(tmp_path: Path, stored: np.ndarray, bits: int, high: int) -> None:
    write_slices(tmp_path, stored, AXIAL, in_bits(bits, high))
    np.testing.assert_array_equal(read_series(tmp_path).read(), stored - 1024)


def pack(folder: Path, kind: str) -> None:
    """Compress the files of a folder without loss by a writer that is not ours."""
    for file in sorted(folder.iterdir()):
        header = pydicom.dcmread(file)
        if kind == "RLE":
            header.compress(RLELossless)
            header.save_as(file)
            continue
        image = itk.imread(str(file), itk.SS)
        writer = itk.GDCMImageIO.New(KeepOriginalUID=True)
        writer.SetCompressor(kind)
        itk.ImageFileWriter.New(Input=image, ImageIO=writer, FileName=str(file), UseCompression=True).Update()


@pytest.mark.parametrize("kind", ["RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize("stored", [STORED, SIGNED], ids=["unsigned", "signed"])
def test_compressed_slices_have_the_values_that_simpleitk_reads(tmp_path: Path, kind: str, stored: np.ndarray) -> None:
    write_slices(tmp_path, stored[:, :, :3], AXIAL)
    plain = read_series(tmp_path)
    expected = plain.read()
    pack(tmp_path, kind)
    series = read_series(tmp_path)
    assert pydicom.dcmread(series.files[0]).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(series.read(), expected)
    assert_as_simpleitk_reads(series)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_other_transfer_syntaxes_have_the_values_that_simpleitk_reads(tmp_path: Path, syntax: str) -> None:
    write_slices(tmp_path, SIGNED[:, :, :3], AXIAL, syntax=syntax)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.read(), SIGNED[:, :, :3] - 1024)
    assert_as_simpleitk_reads(series)


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_a_real_slice_is_the_same_in_each_compression(tmp_path: Path, name: str) -> None:
    voxels = []
    for one in ("MR_small", name):
        (tmp_path / one).mkdir()
        shutil.copy(get_testdata_file(f"{one}.dcm", download=False), tmp_path / one)
        voxels.append(read_series(tmp_path / one).read())
    np.testing.assert_array_equal(*voxels)
    np.testing.assert_array_equal(voxels[0][:, :, 0].T, pydicom.dcmread(tmp_path / "MR_small/MR_small.dcm").pixel_array)


def test_threads_read_compressed_slices_at_once_and_leave_warnings_as_they_were(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :6], AXIAL)
    pack(tmp_path, "RLE")
    series, filters = read_series(tmp_path), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for voxels in pool.map(lambda _: series.read(), range(24)):
            np.testing.assert_array_equal(voxels, HU[:, :, :6])
    assert warnings.filters == filters


def test_another_process_can_read_a_series_that_it_is_given(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL)
    content = pickle.dumps(read_series(tmp_path))
    np.testing.assert_array_equal(pickle.loads(content).read(), HU)


def test_compressed_frames_have_a_slope_each(tmp_path: Path) -> None:
    def change(group: Dataset, k: int) -> None:
        group.PixelValueTransformationSequence[0].RescaleSlope = 1 + k

    write_enhanced(tmp_path / "frames.dcm", STORED, AXIAL, "CT", change)
    pack(tmp_path, "RLE")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.read(), STORED * (1 + np.arange(24)) - 1024)
    np.testing.assert_array_equal(series.read((slice(1, 3), slice(2, 4), slice(5, 9))), series.read()[1:3, 2:4, 5:9])


def test_compressed_slices_that_are_cut_off_are_named(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :3], AXIAL)
    pack(tmp_path, "RLE")
    file = tmp_path / "000002.dcm"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"000002\.dcm is cut off"):
        read_series(tmp_path)


def test_the_whole_range_of_16_bits_is_read(tmp_path: Path) -> None:
    stored = np.linspace(0, 65535, 10 * 8 * 2).round().astype(int).reshape(10, 8, 2)
    write_slices(tmp_path / "unsigned", stored, AXIAL)
    write_slices(tmp_path / "signed", stored - 32768, AXIAL)
    np.testing.assert_array_equal(read_series(tmp_path / "unsigned").read(), stored - 1024)
    np.testing.assert_array_equal(read_series(tmp_path / "signed").read(), stored - 32768 - 1024)


def test_a_box_is_read_from_no_more_files_than_it_takes(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL)
    series = read_series(tmp_path)
    for file in series.files[:5] + series.files[8:]:
        file.unlink()
    np.testing.assert_array_equal(series.read((slice(1, 6), slice(2, 8), slice(5, 8))), HU[1:6, 2:8, 5:8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "is a mosaic of slices"),
        (setting(ModalityLUTSequence=[Dataset()]), "by a table"),
        (setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "repair its header"),
        (setting(PixelSpacing=[0, 1]), "repair its header"),
    ],
    ids=["mosaic", "table", "orientation", "spacing"],
)
def test_a_slice_that_cannot_be_placed_or_valued_is_named(tmp_path: Path, change: Change, message: str) -> None:
    write_slices(tmp_path, STORED[:, :, :3], AXIAL, change)
    with pytest.raises(ValueError, match=rf"00000\d\.dcm .*{message}"):
        read_series(tmp_path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_results_are_not_named_after_the_patient_nor_outside_their_folder(tmp_path: Path) -> None:
    write_slices(tmp_path / "Doe^Jane", STORED[:, :, :3], AXIAL, setting(SeriesInstanceUID="../1.2 3"))
    name = find_series(tmp_path).series[0].name
    assert name == "_1.2_3"
