"""Contours are filled as geometry, other programs and the writer have it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from skimage.draw import polygon2mask

from med3d_components.masks import write_mask
from med3d_components.prepare.contours import fill_polygon
from med3d_components.prepare.layer import Layer
from med3d_components.prepare.rtstruct import read_rtstruct
from tests.data.dicom_files import save, write_series
from tests.masks.shapes import CLASSES, nested_mask, oblique_affine, upright_affine, write_scan

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (80, 70, 30)
Structures = Mapping[str, Sequence[np.ndarray]]


def affine(spacing: Sequence[float] = (1.0, 1.0, 2.5)) -> np.ndarray:
    matrix = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    matrix[:3, 3] = 40, 35, -20
    return matrix


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def write_rtstruct(
    path: Path, structures: Structures, to_ras: np.ndarray, series: str = "", kind: str = "CLOSED_PLANAR"
) -> Path:
    """Write contours, (points, 3) in voxels, by pydicom alone, as a treatment planning system would."""
    header = item(Modality="RTSTRUCT", SOPClassUID=RTStructureSetStorage, SOPInstanceUID=generate_uid())
    header.SpecificCharacterSet = "ISO_IR 192"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    study = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=series)])
    header.ReferencedFrameOfReferenceSequence = [item(RTReferencedStudySequence=[study])] if series else []
    header.StructureSetROISequence = [
        item(ROINumber=10 * number, ROIName=name) for number, name in enumerate(structures, start=1)
    ]
    header.ROIContourSequence = []
    for number, contours in enumerate(structures.values(), start=1):
        found = [
            item(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(contour),
                ContourData=[f"{value:.3f}" for value in apply_affine(LPS @ to_ras, contour).ravel()],
            )
            for contour in contours
        ]
        header.ROIContourSequence.append(item(ReferencedROINumber=10 * number, ContourSequence=found))
    save(header, path)
    return path


def circle(center: Sequence[float], radius: float, k: float, points: int = 400) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    flat = np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], axis=1)
    return np.column_stack([flat, np.full(points, k)])


def ring(center: Sequence[float], radius: float, hole: float, k: float) -> np.ndarray:
    """Return a ring as one contour, a keyhole."""
    outer, inner = circle(center, radius, k), circle(center, hole, k)
    return np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]])


def read(tmp_path: Path, contours: Sequence[np.ndarray]) -> Layer:
    """Return the layer of one structure."""
    write_series(tmp_path / "scan", np.zeros(SHAPE), affine())
    (layer,) = read_rtstruct(write_rtstruct(tmp_path / "rt.dcm", {"a": contours}, affine()), tmp_path / "scan")
    assert layer.names == {1: "a"}
    return layer


def filled(tmp_path: Path, contours: Sequence[np.ndarray]) -> np.ndarray:
    """Return the voxels of one structure that lies inside its scan."""
    layer = read(tmp_path, contours)
    assert layer.cut_mm == 0
    return layer.voxels


def test_a_ball_has_the_volume_of_a_ball(tmp_path: Path) -> None:
    spacing, radius, middle = (1.0, 1.0, 2.5), 25.0, 14.3
    heights = (np.arange(SHAPE[2]) - middle) * spacing[2]
    contours = [
        circle((40.2, 34.7), np.sqrt(radius**2 - height**2), k)
        for k, height in enumerate(heights)
        if abs(height) < radius
    ]
    volume = filled(tmp_path, contours).sum() * np.prod(spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.005)


def test_a_ring_has_its_hole_as_a_contour_of_its_own_or_by_a_keyhole(tmp_path: Path) -> None:
    outer, inner = (circle((40, 35), radius, 5) for radius in (20.3, 10.2))
    rings = filled(tmp_path / "a", [outer, inner]), filled(tmp_path / "b", [ring((40, 35), 20.3, 10.2, 5)])
    assert np.array_equal(*rings)
    area = np.pi * (20.3**2 - 10.2**2)
    assert rings[0].sum() == pytest.approx(area, rel=0.01)
    island = filled(tmp_path / "c", [inner, circle((40, 35), 4, 5), outer])
    assert island.sum() == pytest.approx(area + np.pi * 16, rel=0.01)


def test_contours_that_cross_are_joined_and_one_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    left, right = circle((35, 35), 10.3, 5), circle((45, 35), 10.3, 5)
    alone = [filled(tmp_path / name, [each]) > 0 for name, each in (("a", left), ("b", right))]
    assert np.array_equal(filled(tmp_path / "c", [left, right, left]) > 0, alone[0] | alone[1])


@pytest.mark.parametrize("offset", [0.0, 0.3, -0.4, 0.5])
def test_contours_between_the_slices_belong_to_the_nearest_slice(tmp_path: Path, offset: float) -> None:
    noise = np.random.default_rng(0).uniform(-2e-4, 2e-4, 6)
    contours = [circle((40, 35), 10.3, k + offset + noise[k - 8]) for k in range(8, 14)]
    used = np.flatnonzero(filled(tmp_path, contours).any(axis=(0, 1)))
    assert len(used) == 6
    assert used[0] in (8 + np.floor(offset), 8 + np.ceil(offset))
    assert np.array_equal(np.diff(used), np.ones(5))


def test_contours_on_finer_planes_than_the_slices_do_not_cancel(tmp_path: Path) -> None:
    once = filled(tmp_path / "a", [circle((40, 35), 10.3, k) for k in range(8, 14)])
    finer = filled(tmp_path / "b", [circle((40, 35), 10.3, k) for k in np.arange(7.75, 13.6, 0.25)])
    assert np.array_equal(once, finer)


def test_a_structure_drawn_on_every_second_slice_has_no_gaps_and_its_volume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sparse = filled(tmp_path / "a", [circle((40, 35), 10.3, k) for k in range(8, 18, 2)])
    assert np.array_equal(np.flatnonzero(sparse.any(axis=(0, 1))), np.arange(7, 17))
    assert "a has contours 2 slices apart; the slices between take the nearest one" in caplog.text


def test_parts_far_from_each_other_stay_apart(tmp_path: Path) -> None:
    planes = [3, 4, 5, 20, 21]
    apart = filled(tmp_path / "a", [circle((40, 35), 5.3, k) for k in planes])
    assert np.flatnonzero(apart.any(axis=(0, 1))).tolist() == planes
    lesions = filled(tmp_path / "b", [circle((40, 35), 5.3, k) for k in (3, 20)])
    assert np.flatnonzero(lesions.any(axis=(0, 1))).tolist() == [3, 20]


def test_what_the_package_writes_is_read_voxel_for_voxel(tmp_path: Path) -> None:
    for name, to_ras in (("oblique", oblique_affine()), ("upright", upright_affine())):
        scan = write_scan(tmp_path / name, to_ras)
        (file,) = write_mask(nested_mask(), scan, tmp_path / f"{name}_seg", CLASSES, "rtstruct")
        for value, layer in enumerate(read_rtstruct(file, scan), start=1):
            assert layer.names == {value: CLASSES[value]}
            assert np.array_equal(layer.voxels == value, nested_mask() == value)


def test_plastimatch_fills_contours_alike(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed, which reads RTSTRUCT (apt install plastimatch)")
    write_series(tmp_path / "scan", np.zeros(SHAPE), affine())
    generator = np.random.default_rng(0)
    stars = []
    for k in range(4, 26):
        star = circle((40, 35), 1, k, 60)
        star[:, :2] = (star[:, :2] - (40, 35)) * generator.uniform(8, 25, (60, 1)) + (40, 35)
        stars.append(star)
    structures = {"star": stars, "ring": [ring((30, 30), 15.2, 7.3, 7)]}
    file = write_rtstruct(tmp_path / "rt.dcm", structures, affine())
    command = ["plastimatch", "convert", "--input", file, "--referenced-ct", tmp_path / "scan"]
    command += ["--output-prefix", tmp_path / "out", "--prefix-format", "nrrd"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    for number, (name, layer) in enumerate(zip(structures, read_rtstruct(file, tmp_path / "scan"), strict=True), 1):
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / f"{name}.nrrd"))).T > 0
        assert 2 * (theirs & (layer.voxels == number)).sum() / (theirs.sum() + (layer.voxels > 0).sum()) > 0.99


def test_skimage_fills_polygons_alike_but_for_voxels_on_the_line() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        polygon = generator.uniform(-5, 35, (generator.integers(3, 40), 2))
        assert np.array_equal(fill_polygon(polygon, (30, 28)), polygon2mask((30, 28), polygon))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_square_has_its_area_wherever_its_sides_lie(shift: float) -> None:
    square = np.array([[2, 2], [2, 7], [7, 7], [7, 2]]) + shift
    assert fill_polygon(square, (12, 12)).sum() == 25
    assert fill_polygon(square[::-1], (12, 12)).sum() == 25


@pytest.mark.parametrize(
    ("center", "slices", "distance"),
    [
        ((40, 35), range(26, 34), 3.5 * 2.5),
        ((40, 35), range(-4, 3), 3.5 * 2.5),
        ((40, 35), range(60, 64), 33.5 * 2.5),
        ((72, 35), range(5, 9), 72 + 10 - 79.5),
        ((40, 7), range(5, 9), 3 - 0.5),
        ((140, 35), range(5, 9), 140 + 10 - 79.5),
    ],
)
def test_how_far_a_structure_reaches_outside_its_scan_is_told_with_what_is_left_of_it(
    tmp_path: Path, center: tuple[float, float], slices: range, distance: float
) -> None:
    layer = read(tmp_path, [circle(center, 10, k) for k in slices])
    assert layer.cut_mm == pytest.approx(distance, abs=0.01)
    inside = sum(
        (np.square(np.indices(SHAPE[:2]) - np.reshape(center, (2, 1, 1))).sum(axis=0) < 100).sum()
        for k in slices
        if 0 <= k < SHAPE[2]
    )
    assert np.count_nonzero(layer.voxels) == pytest.approx(inside, rel=0.03)


def test_an_outline_that_touches_the_border_is_no_cut_and_what_is_lost_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = np.array([[-0.5, -0.5], [79.5, -0.5], [79.5, 69.5], [-0.5, 69.5]])
    body = [np.column_stack([whole, np.full(4, k)]) for k in range(30)]
    assert filled(tmp_path / "a", body).all()
    assert "outside" not in caplog.text
    wider = [np.column_stack([(whole - (40, 35)) * 1.02 + (40, 35), np.full(4, k)]) for k in range(-1, 31)]
    assert filled(tmp_path / "b", wider).all()
    assert "rt.dcm: a reaches 1.2 mm outside its scan; that border is cut off" in caplog.text


def test_contours_across_the_slices_are_refused(tmp_path: Path) -> None:
    upright = circle((40, 35), 10, 5)[:, [0, 2, 1]]
    with pytest.raises(ValueError, match=r"a has a contour that crosses 20.0 slices of its scan; export it"):
        filled(tmp_path, [np.add(upright, (0, 30, -20))])


@pytest.mark.parametrize("numbers", [["1", "2"], ["a", "b", "c"], ["1", "2", "nan"]])
def test_a_contour_that_is_no_list_of_points_is_refused(tmp_path: Path, numbers: list[str]) -> None:
    write_series(tmp_path / "scan", np.zeros(SHAPE), affine())
    file = write_rtstruct(tmp_path / "rt.dcm", {"a": [circle((40, 35), 10, 5, points=1)]}, affine())
    content, written = file.read_bytes(), pydicom.dcmread(file).ROIContourSequence[0].ContourSequence[0]
    text = "\\".join(map(str, written.ContourData)).encode()
    found = content.index(b"\x06\x30\x50\x00") + 8
    length = int.from_bytes(content[found - 4 : found], "little")
    new = "\\".join(numbers).encode().ljust(length)
    assert len(text) <= length == len(new)
    file.write_bytes(content[:found] + new + content[found + length :])
    with pytest.raises(ValueError, match=r"rt.dcm: a has a contour that is no list of points; export"):
        list(read_rtstruct(file, tmp_path / "scan"))


def test_points_enclose_nothing_and_a_structure_without_contours_is_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "scan", np.zeros(SHAPE), affine())
    file = write_rtstruct(tmp_path / "rt.dcm", {"iso": [np.array([[40.0, 35, 5]])], "b": []}, affine(), kind="POINT")
    header = pydicom.dcmread(file)
    del header.ROIContourSequence[1]
    header.save_as(file)
    layers = list(read_rtstruct(file, tmp_path / "scan"))
    assert [layer.names for layer in layers] == [{1: "iso"}, {2: "b"}]
    assert not any(layer.voxels.any() for layer in layers)
    assert "iso: 1 points or open lines enclose nothing" in caplog.text
