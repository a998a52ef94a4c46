"""Geometry of real files, compared with what SimpleITK and nibabel make of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

from med3d_components.data.folders import list_images
from med3d_components.data.geometry import nifti_geometry
from med3d_components.data.volumes import open_scan, read_header, read_volume
from med3d_components.transforms import FastLoadImaged

SHAPE = (7, 6, 5)
VALUES = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
SPACING = np.array([1.5, 1.5, 2.5])
LPS = from_matvec(np.diag([-1.5, -1.5, 2.5]), [40.0, 30.0, -20.0])
OBLIQUE = from_matvec(euler2mat(0.4, -0.2, 0.1) * SPACING, [-70.0, 12.5, 300.0])
SHEARED = OBLIQUE @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def write(path: Path, sform: Any = None, qform: Any = None, values: NDArray[Any] = VALUES, **fields: Any) -> Path:
    """Write a header byte by byte where nibabel's writer would mend it."""
    endianness = fields.pop("endianness", "<")
    header = nib.Nifti1Header(endianness=endianness)
    header.set_data_shape(values.shape)
    header.set_data_dtype(values.dtype)
    header["pixdim"][1:4] = SPACING
    header["xyzt_units"] = 2
    if qform is not None:
        header.set_qform(qform, code=1)
    if sform is not None:
        header.set_sform(sform, code=2)
    for name, value in fields.items():
        where = slice(1, 4) if name == "pixdim" else ...
        header[name][where] = value
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with nib.openers.ImageOpener(path, "wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.write(values.astype(values.dtype.newbyteorder(endianness)).tobytes(order="F"))
    return path


def itk_affine(path: Path) -> NDArray[np.float64]:
    image = SimpleITK.ReadImage(str(path))
    matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return np.diag([-1.0, -1, 1, 1]) @ from_matvec(matrix, image.GetOrigin())


def distance(one: NDArray[Any], other: NDArray[Any], shape: Sequence[int] = SHAPE) -> float:
    corners = list(product(*[(-0.5, length - 0.5) for length in shape]))
    return float(np.linalg.norm(apply_affine(one, corners) - apply_affine(other, corners), axis=1).max())


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("med3d")]


METRES, MICRONS = np.diag([1e-3, 1e-3, 1e-3, 1]), np.diag([1e3, 1e3, 1e3, 1])
SOUND: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "sform alone": (LPS, {"sform": LPS}),
    "qform alone": (OBLIQUE, {"qform": OBLIQUE}),
    "both": (OBLIQUE, {"sform": OBLIQUE, "qform": OBLIQUE}),
    "sform, a voxel size in other digits, no quaternion": (LPS, {"sform": LPS, "pixdim": SPACING * [1, 1.00002, 1]}),
    "qform of the opposite hand": (LPS @ np.diag([1, 1, -1, 1]), {"qform": LPS @ np.diag([1, 1, -1, 1])}),
    "big endian": (OBLIQUE, {"sform": OBLIQUE, "endianness": ">"}),
    "metres": (OBLIQUE, {"sform": METRES @ OBLIQUE, "qform": METRES @ OBLIQUE, "xyzt_units": 1}),
    "microns": (OBLIQUE, {"qform": MICRONS @ OBLIQUE, "xyzt_units": 3}),
    "mm and seconds": (LPS, {"sform": LPS, "xyzt_units": 2 + 8}),
    "no unit": (LPS, {"sform": LPS, "xyzt_units": 0}),
}


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "CASE.NII.GZ", "Case.Nii.gz"])
@pytest.mark.parametrize(("expected", "content"), SOUND.values(), ids=SOUND)
def test_a_nifti_file_lies_where_simpleitk_puts_it_in_inference_training_and_import(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, expected: NDArray[Any], content: dict[str, Any], name: str
) -> None:
    path = write(tmp_path / name, **content)
    loaded = FastLoadImaged("image", ensure_channel_first=True)({"image": list_images(tmp_path)[0]["image"]})["image"]
    values, affine = read_volume(path)
    (tmp_path / "small").mkdir()
    plain = write(tmp_path / "small" / "scan.nii", **content)  # ITK knows no ending in capitals
    for found in (loaded.affine.numpy(), affine, open_scan(path).affine, itk_affine(plain)):
        assert distance(found, expected) < 0.01
    for voxels in (
        loaded[0].numpy(),
        values,
        open_scan(path).read(),
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(plain)).T,
    ):
        assert np.array_equal(voxels, VALUES)
    assert np.array_equal(open_scan(path).read((1, 2, 0), (3, 6, 4)), VALUES[1:3, 2:, :4])
    assert list_images(tmp_path / name)[0]["case"] == name.partition(".")[0]
    assert read_header(path).spacing == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0)[[0, 1, 2]], abs=1e-4)
    assert not warnings_of(caplog)


@pytest.mark.parametrize("content", [{"sform": SHEARED}, {"sform": SHEARED, "qform": SHEARED}])
def test_a_sheared_sform_is_taken_and_its_qform_is_no_contradiction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: dict[str, Any]
) -> None:
    pixdim = np.linalg.norm(SHEARED[:3, :3], axis=0)
    path = write(tmp_path / "scan.nii", **content, pixdim=pixdim)
    assert distance(open_scan(path).affine, nib.load(path).affine) < 0.01
    assert distance(open_scan(path).affine, SHEARED) < 0.01
    assert not warnings_of(caplog)


def test_two_forms_that_contradict_each_other_are_told_once_in_mm_and_the_sform_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turned = from_matvec(euler2mat(np.deg2rad(10)), [0, 0, 0]) @ OBLIQUE
    path = write(tmp_path / "turned.nii", sform=OBLIQUE, qform=turned)
    far = distance(OBLIQUE, turned)
    for _ in range(2):
        loaded = FastLoadImaged("image")({"image": str(path)})["image"]
        read_header(path)
    assert distance(loaded.affine.numpy(), OBLIQUE) < 0.01
    assert warnings_of(caplog) == [
        f"{path}: the qform in its header lies up to {far:.3g} mm off its sform, which is taken."
    ]
    caplog.clear()
    near = OBLIQUE @ from_matvec(np.eye(3), [0.09, -0.09, 0.09])
    open_scan(write(tmp_path / "near.nii", sform=OBLIQUE, qform=near))
    assert not warnings_of(caplog)
    open_scan(write(tmp_path / "sizes.nii", sform=OBLIQUE, pixdim=[1.5, 1.5, 5]))
    assert "the voxel size in its header lies up to" in warnings_of(caplog)[0]


def test_a_file_without_directions_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "scan.nii")
    for _ in range(2):
        assert distance(open_scan(path).affine, nib.load(path).affine) < 0.01
        FastLoadImaged("image")({"image": str(path)})
    assert [str(path) in line and "left and right are unknown" in line for line in warnings_of(caplog)] == [True]


PARALLEL = LPS.copy()
PARALLEL[:3, 1] = PARALLEL[:3, 0]
NOWHERE = LPS.copy()
NOWHERE[1, 3] = np.nan
UNSOUND: dict[str, tuple[dict[str, Any], str]] = {
    "voxel size of 0": ({"sform": LPS, "pixdim": [0, 1.5, 2.5]}, r"no valid spacing \(0 x 1.5 x 2.5 mm\)"),
    "voxel size of NaN": ({"qform": LPS, "pixdim": [np.nan, 1.5, 2.5]}, r"no valid spacing \(nan x 1.5 x 2.5 mm\)"),
    "sform of zeros": ({"sform": np.zeros((4, 4))}, r"no valid spacing \(0 x 0 x 0 mm\)"),
    "below a micron": ({"sform": np.diag([5e-4, 1, 1, 1])}, "voxel size of 0.0005 x 1 x 1 mm, but 0.001 to 100 mm"),
    "above 100 mm": ({"qform": np.diag([1, 1, 150, 1])}, "voxel size of 1 x 1 x 150 mm, but"),
    "mm that are called metres": (
        {"sform": LPS, "xyzt_units": 1},
        "voxel size of 1500 x 1500 x 2500 mm, but .* sform .* in m",
    ),
    "two parallel axes": ({"sform": PARALLEL}, "no three different directions"),
    "no origin": ({"sform": NOWHERE}, "no three different directions, or no origin; repair the sform"),
    "no rotation": ({"qform": LPS, "quatern_b": 1, "quatern_c": 1}, "no valid spacing.*qform"),
}


@pytest.mark.parametrize(("content", "message"), UNSOUND.values(), ids=UNSOUND)
def test_a_geometry_that_is_none_is_one_error_with_the_files_name_wherever_it_is_read(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "scan.nii.gz", **content)
    loader = FastLoadImaged("image")
    for read in (open_scan, read_header, read_volume, nifti_geometry, lambda path: loader({"image": str(path)})):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            read(path)
        with pytest.raises(ValueError, match=rf"scan\.nii\.gz has (a )?{message}"):
            raise caught.value.__cause__ or caught.value


@pytest.mark.parametrize(
    ("shape", "expected"), [((7, 6, 5, 1), SHAPE), ((7, 6, 1), (7, 6, 1)), ((7, 6, 1, 1), (7, 6, 1))]
)
@pytest.mark.parametrize("endianness", "<>")
def test_a_last_axis_of_one_and_a_single_slice_are_volumes(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...], endianness: str
) -> None:
    values = VALUES.flat[: np.prod(shape)].reshape(shape)
    path = write(tmp_path / "scan.nii", sform=LPS, values=values, endianness=endianness)
    loaded = FastLoadImaged("image", ensure_channel_first=True)({"image": str(path)})["image"]
    assert loaded.shape == (1, *expected)
    assert open_scan(path).shape == expected
    assert np.array_equal(loaded[0].numpy(), values.reshape(expected))
    assert read_volume(path)[0].dtype == np.int16


def test_a_pair_of_nifti_files_and_voxels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VALUES, LPS), tmp_path / "pair.img")
    with pytest.raises(ValueError, match=r"pair\.hdr is none of .*; convert it to \.nii\.gz"):
        open_scan(tmp_path / "pair.hdr")
    nib.save(nib.Nifti1Image(VALUES.astype(np.complex64), LPS), tmp_path / "complex.nii")
    with pytest.raises(ValueError, match=r"complex\.nii holds voxels of type complex64"):
        open_scan(tmp_path / "complex.nii")
    start = write(tmp_path / "start.nii", sform=LPS)
    content = bytearray(start.read_bytes())
    content[108:112] = bytes(4)  # vox_offset
    start.write_bytes(content)
    with pytest.raises(ValueError, match=r"start\.nii says that its voxels begin at byte 0, in its header"):
        open_scan(start).voxels()


def image(values: NDArray[Any], affine: NDArray[Any], is_vector: bool = False) -> SimpleITK.Image:
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    made = SimpleITK.GetImageFromArray(values.T if not is_vector else np.moveaxis(values, -1, 0).T, isVector=is_vector)
    made.SetSpacing(lengths.tolist())
    made.SetOrigin(lps[:3, 3].tolist())
    made.SetDirection((lps[:3, :3] / lengths).ravel().tolist())
    return made


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("affine", [LPS, OBLIQUE, from_matvec(np.diag(SPACING))], ids=["LPS", "oblique", "RAS"])
def test_all_formats_have_one_place_and_the_same_voxels(tmp_path: Path, affine: NDArray[Any], dtype: str) -> None:
    values = (VALUES // 10).astype(dtype)
    for ending in ("nii.gz", "nrrd", "mha", "mhd"):
        path = tmp_path / f"scan.{ending}"
        SimpleITK.WriteImage(image(values, affine), str(path), useCompression=ending == "nrrd")
        scan = open_scan(path)
        assert (scan.shape, scan.channels, scan.name) == (SHAPE, 1, "scan")
        assert distance(scan.affine, affine) < 0.01
        assert distance(scan.affine, itk_affine(path)) < 0.01
        assert np.array_equal(scan.voxels(), values)
        assert np.array_equal(scan.read((1, 2, 0), (3, 6, 4)), values[1:3, 2:, :4])
        loaded = FastLoadImaged("image", ensure_channel_first=True)({"image": str(path)})["image"]
        assert np.array_equal(loaded[0].numpy(), values.astype(np.float32))


def nrrd(path: Path, fields: str, values: NDArray[Any]) -> Path:
    header = f"NRRD0004\ntype: short\nendian: little\nencoding: raw\ndimension: {values.ndim}\n"
    sizes = " ".join(map(str, values.shape))
    path.write_bytes(f"{header}sizes: {sizes}\n{fields}\n\n".encode() + values.tobytes(order="F"))
    return path


SPACES = {"left-posterior-superior": (-1, -1), "right-anterior-superior": (1, 1), "left-anterior-superior": (-1, 1)}


@pytest.mark.parametrize("space", SPACES)
def test_a_nrrd_file_may_have_any_space_and_channels_on_a_list_axis_at_either_end(tmp_path: Path, space: str) -> None:
    two = np.stack([VALUES, VALUES + 1], axis=-1)
    place = f"space: {space}\nspace origin: (1,2,3)\nspace directions: "
    axes = "(1.5,0,0) (0,1.5,0) (0,0,2.5)"
    flat = nrrd(tmp_path / "flat.nrrd", f"{place}{axes}", VALUES)
    first = nrrd(
        tmp_path / "scan.seg.nrrd", f"{place}none {axes}\nkinds: list domain domain domain", two.transpose(3, 0, 1, 2)
    )
    last = nrrd(tmp_path / "last.nrrd", f"{place}{axes} none\nkinds: domain domain domain list", two)
    expected = np.diag([*SPACES[space], 1, 1]) @ from_matvec(np.diag(SPACING), [1, 2, 3])
    for path in (flat, first, last):
        assert distance(open_scan(path).affine, expected) < 0.01
    for path in (first, last):
        scan = open_scan(path)
        assert (scan.shape, scan.channels) == (SHAPE, 2)
        loaded = FastLoadImaged("image", ensure_channel_first=True)({"image": str(path)})["image"]
        assert np.array_equal(np.moveaxis(loaded.numpy(), 0, -1), two)
        with pytest.raises(ValueError, match=r"is 4-D, of shape \(7, 6, 5, 2\), but a scan must have one channel"):
            scan.read()


DIRECTIONS = "space: left-posterior-superior\nspace origin: (0,0,0)\nspace directions: "


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("spacings: 1 1 2", "gives no directions, so left and right are unknown"),
        (DIRECTIONS + "(1,0,0) (0,1,0) (0,0,2500)", "voxel size of 1 x 1 x 2500 mm"),
        (DIRECTIONS + "(1,0,0) (1,0,0) (0,0,2)", "no three different directions"),
        (DIRECTIONS + "(0,0,0) (0,1,0) (0,0,2)", "is not a readable volume|no valid spacing"),
    ],
)
def test_a_nrrd_file_without_a_geometry_is_refused(tmp_path: Path, fields: str, message: str) -> None:
    path = nrrd(tmp_path / "scan.nrrd", fields, VALUES)
    with pytest.raises(ValueError, match=rf"scan\.nrrd .*({message})"):
        open_scan(path)


@pytest.mark.parametrize(
    ("left_out", "message"), [("TransformMatrix", "gives no directions"), ("ElementSpacing", "no valid spacing")]
)
def test_a_metaimage_without_a_geometry_is_refused(tmp_path: Path, left_out: str, message: str) -> None:
    path = tmp_path / "scan.mhd"
    SimpleITK.WriteImage(image(VALUES, LPS), str(path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(left_out)))
    with pytest.raises(ValueError, match=rf"scan\.mhd .*{message}"):
        open_scan(path)


def test_a_nrrd_file_whose_space_has_no_name_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields = "space dimension: 3\nspace origin: (0,0,0)\nspace directions: (1,0,0) (0,1,0) (0,0,2)"
    path = nrrd(tmp_path / "scan.nrrd", fields, VALUES)
    assert distance(open_scan(path).affine, itk_affine(path)) < 0.01
    with caplog.at_level(logging.WARNING):
        assert ["does not name its space" in line for line in warnings_of(caplog)] == [True]
