"""SEG objects of highdicom and dcmqi, and the series that labels belong to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from med3d_components.data.dicom import find_series, read_series
from med3d_components.data.labels import fit_label
from med3d_components.masks import write_mask
from med3d_components.prepare.dicom_labels import SEG, find_dicom_labels, match_series
from med3d_components.prepare.label_files import read_layers
from tests.data.dicom_files import write_enhanced
from tests.masks.shapes import CLASSES, SHAPE, ball, nested_mask, oblique_affine, upright_affine, write_scan

hd: Any = pytest.importorskip("highdicom")
Write = Callable[[Path, Path, dict[str, np.ndarray]], Path]


def by_highdicom(path: Path, scan: Path, regions: dict[str, np.ndarray]) -> Path:
    """Write regions that may overlap, their frames in an order by chance."""
    stack = np.stack([region.T for region in regions.values()], axis=-1).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(stack))
    seg = new_seg(scan, stack, list(regions), "BINARY", order)
    groups = list(seg.PerFrameFunctionalGroupsSequence)
    size = SHAPE[0] * SHAPE[1]
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")[: size * len(groups)]
    mixed = np.random.default_rng(1).permutation(len(groups))
    packed = np.packbits(bits.reshape(len(groups), size)[mixed].ravel(), bitorder="little").tobytes()
    seg.PixelData = packed + b"\0" * (len(packed) % 2)
    seg.PerFrameFunctionalGroupsSequence = [groups[frame] for frame in mixed]
    seg.save_as(path)
    return path


def new_seg(scan: Path, stack: np.ndarray, names: list[str], kind: str, order: np.ndarray | None = None) -> Any:
    """Return a SEG of a stack (slices, rows, columns), of labels or with an axis of segments behind."""
    order = np.arange(len(stack)) if order is None else order
    series = read_series(scan)
    sources = [pydicom.dcmread(file) for file in series.files]
    for header in sources:
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "StudyTime", "StudyID"):
            header.setdefault(keyword, "")
        header.setdefault("ReferringPhysicianName", "")
    code = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = [
        hd.seg.SegmentDescription(number, name, code, code, "MANUAL") for number, name in enumerate(names, start=1)
    ]
    return hd.seg.Segmentation(
        source_images=[sources[k] for k in order],
        pixel_array=stack[order],
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="a",
        manufacturer_model_name="b",
        software_versions="1",
        device_serial_number="1",
    )


def by_dcmqi(path: Path, scan: Path, regions: dict[str, np.ndarray]) -> Path:
    program = shutil.which("itkimage2segimage", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("dcmqi is not installed, whose itkimage2segimage writes DICOM SEG")
    code = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    described, files = [], []
    for name, region in regions.items():
        files.append(path.with_name(f"{name}.nii.gz"))
        nib.save(nib.Nifti1Image(region.astype(np.uint8), read_series(scan).affine), files[-1])
        kind = {"SegmentedPropertyCategoryCodeSequence": code, "SegmentedPropertyTypeCodeSequence": code}
        names = {"SegmentLabel": name, "SegmentDescription": name, "SegmentAlgorithmType": "MANUAL"}
        described.append([{"labelID": 1, **names, **kind, "recommendedDisplayRGBValue": [255, 0, 0]}])
    meta = {"ContentCreatorName": "a", "SeriesDescription": "b", "SeriesNumber": "100", "InstanceNumber": "1"}
    path.with_suffix(".json").write_text(json.dumps({**meta, "segmentAttributes": described}))
    command = [program, "--inputImageList", ",".join(map(str, files)), "--inputDICOMDirectory", scan]
    command += ["--inputMetadata", path.with_suffix(".json"), "--outputDICOM", path]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("write", [by_highdicom, by_dcmqi])
def test_overlapping_segments_of_other_writers_have_their_names_voxels_and_place(tmp_path: Path, write: Write) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    regions = {"liver": ball((18, 15, 12), 9), "tumour": ball((20, 15, 13), 4), "far": ball((35, 25, 3), 2)}
    file = write(tmp_path / "seg.dcm", scan, regions)
    found = {}
    for layer in read_layers(file, scan):
        ((value, name),) = layer.names.items()
        found[name] = fit_label(layer.voxels, layer.affine, SHAPE, read_series(scan).affine, "a") == value
    assert found.keys() == regions.keys()
    assert all(np.array_equal(found[name], region) for name, region in regions.items())


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
def test_segments_of_other_kinds_are_read_where_they_are_regions(tmp_path: Path, kind: str) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    mask = nested_mask().T
    stack = mask.copy() if kind == "LABELMAP" else np.stack([mask == 1, mask == 2], axis=-1).astype(float)
    new_seg(scan, stack, CLASSES[1:], kind).save_as(tmp_path / "seg.dcm")
    for value, layer in enumerate(read_layers(tmp_path / "seg.dcm", scan), start=1):
        placed = fit_label(layer.voxels, layer.affine, SHAPE, read_series(scan).affine, "a")
        assert np.array_equal(placed == value, nested_mask() == value)


def test_probabilities_are_refused(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    new_seg(scan, (nested_mask().T > 0)[..., None] * 0.4, ["lung"], "FRACTIONAL").save_as(tmp_path / "seg.dcm")
    with pytest.raises(ValueError, match=r"seg.dcm: 'lung' holds probabilities instead of a region; write it as"):
        list(read_layers(tmp_path / "seg.dcm", scan))


@pytest.mark.parametrize("formats", ["dicom-seg", "rtstruct"])
def test_a_label_is_matched_by_its_slices_its_series_or_its_frame_of_reference(
    tmp_path: Path, formats: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_scan(tmp_path / "a", oblique_affine())
    other = write_scan(tmp_path / "b", upright_affine())
    for file in other.iterdir():
        header = pydicom.dcmread(file)
        header.FrameOfReferenceUID = "1.2.3"
        header.save_as(file)
    write_mask(nested_mask(), scan, tmp_path / "a_seg", CLASSES, formats)
    (label,) = find_dicom_labels(tmp_path)
    assert (label.kind == SEG) == (formats == "dicom-seg")
    series = find_series(tmp_path).series
    assert match_series(label, series).folder == scan
    assert match_series(label._replace(images=frozenset()), series).folder == scan
    assert match_series(label._replace(images=frozenset(), series=frozenset()), series).folder == scan
    assert not capsys.readouterr().out
    assert match_series(label._replace(images=frozenset(), series=frozenset({"1.9"})), series).folder == scan
    assert "was drawn on a series that is not here" in capsys.readouterr().out
    lost = label._replace(images=frozenset(), series=frozenset({"1.9"}), frames=frozenset({"1.8"}))
    with pytest.raises(ValueError, match=r"belongs to no series here \(it names 1.8, 1.9\); add its series"):
        match_series(lost, series)


def test_a_label_of_two_series_of_one_frame_of_reference_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scan(tmp_path / name, oblique_affine())
    write_mask(nested_mask(), tmp_path / "a", tmp_path / "a_seg", CLASSES, "rtstruct")
    (label,) = find_dicom_labels(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to 2 series: .*; keep the one it was drawn on"):
        match_series(label._replace(images=frozenset(), series=frozenset()), find_series(tmp_path).series)


def test_a_copy_of_a_label_counts_once(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    (file,) = write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, "rtstruct")
    shutil.copy(file, tmp_path / "copy.dcm")
    assert len(find_dicom_labels(tmp_path)) == 1


@pytest.mark.parametrize("formats", ["dicom-seg", "rtstruct"])
@pytest.mark.parametrize("left", [0.05, 0.5, 0.95, 0.999])
def test_a_label_that_is_cut_off_is_refused_by_its_name(tmp_path: Path, formats: str, left: float) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    (file,) = write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, formats)
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content))])
    with pytest.raises(ValueError, match=rf"{file.name}.* copy it anew"):
        list(read_layers(file, scan))


def test_without_highdicom_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    (file,) = write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, "dicom-seg")
    monkeypatch.setattr("med3d_components.prepare.dicom_seg.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"a DICOM SEG, highdicom is needed; install it with pip install"):
        list(read_layers(file, scan))


def test_a_dicom_image_is_no_label(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", np.zeros((4, 4, 3), np.int16), np.eye(4), "CT")
    with pytest.raises(ValueError, match="is a DICOM file, but neither a SEG nor an RTSTRUCT; give a label"):
        list(read_layers(tmp_path / "a.dcm", tmp_path))
