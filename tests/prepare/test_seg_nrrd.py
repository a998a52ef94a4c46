"""Segmentations that 3D Slicer's own library wrote, and headers of other versions, written by pynrrd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from med3d_components.data.labels import fit_label
from med3d_components.masks import write_mask
from med3d_components.prepare.label_files import read_layers
from med3d_components.prepare.seg_nrrd import is_slicer_segmentation
from tests.masks.shapes import CLASSES, SHAPE, ball, nested_mask, oblique_affine, write_scan

slicerio: Any = pytest.importorskip("slicerio")
LPS = np.diag([-1.0, -1, 1, 1])


def segment(name: str, value: int, layer: int) -> dict[str, Any]:
    return {"id": name, "name": name, "labelValue": value, "layer": layer, "color": [1, 0, 0], "extent": [0] * 6}


def write_by_slicerio(path: Path, layers: np.ndarray, affine: np.ndarray, segments: list[dict[str, Any]]) -> Path:
    """Write layers, (x, y, z) or (layers, x, y, z)."""
    content = {
        "voxels": layers,
        "ijkToLPS": LPS @ affine,
        "containedRepresentationNames": ["Binary labelmap", "Closed surface"],
        "masterRepresentation": "Binary labelmap",
        "segments": segments,
    }
    slicerio.write_segmentation(str(path), content)
    return path


def regions(path: Path, image: Path) -> dict[str, np.ndarray]:
    """Return name to region on a grid of the phantom's shape, as the import places it."""
    found: dict[str, np.ndarray] = {}
    for layer in read_layers(path, image):
        placed = fit_label(layer.voxels, layer.affine, SHAPE, oblique_affine(), str(path))
        found |= {name: placed == value for value, name in layer.names.items()}
    return found


def test_overlapping_segments_lie_in_layers_where_they_may_have_one_value(tmp_path: Path) -> None:
    large, small = (ball((18, 15, 12), radius) for radius in (9, 4))
    file = write_by_slicerio(
        tmp_path / "a.seg.nrrd",
        np.stack([large, small]).astype(np.uint8),
        oblique_affine(),
        [segment("Leber", 1, 0), segment("Tumor 1", 1, 1)],
    )
    found = regions(file, file)
    assert found.keys() == {"Leber", "Tumor 1"}
    assert np.array_equal(found["Leber"], large)
    assert np.array_equal(found["Tumor 1"], small)


def test_a_segmentation_that_is_cropped_to_its_segments_lies_where_it_was_drawn(tmp_path: Path) -> None:
    mask = nested_mask()
    low, high = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0) + 1
    assert np.prod(high - low) < np.prod(SHAPE)
    shift = np.eye(4)
    shift[:3, 3] = low
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    segments = [segment(name, value, 0) for value, name in enumerate(CLASSES) if value]
    file = write_by_slicerio(tmp_path / "a.seg.nrrd", mask[box], oblique_affine() @ shift, segments)
    found = regions(file, file)
    for value, name in enumerate(CLASSES[1:], start=1):
        assert np.array_equal(found[name], mask == value)


def test_what_the_package_writes_is_read(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    names = ["background", "linke Lunge", "Gef\u00e4\u00df"]
    (file,) = write_mask(nested_mask(), scan, tmp_path / "scan_seg", names, "seg.nrrd")
    found = regions(file, scan)
    assert all(np.array_equal(found[name], nested_mask() == value) for value, name in enumerate(names) if value)


def test_a_file_of_an_old_version_has_a_layer_for_each_segment_and_does_not_say_so(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    layers = np.stack([ball((10, 10, 10), 3), ball((20, 10, 10), 4)]).astype(np.uint8)
    header = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.vstack([[np.nan] * 3, (LPS @ oblique_affine())[:3, :3].T]),
        "space origin": (LPS @ oblique_affine())[:3, 3],
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "one",
        "Segment1_ID": "Segment_2",
        "Segment1_Name": "two",
    }
    nrrd.write(str(tmp_path / "a.seg.nrrd"), layers, header)
    found = regions(tmp_path / "a.seg.nrrd", tmp_path)
    assert [found[name].sum() for name in ("one", "two")] == [layers[0].sum(), layers[1].sum()]


def test_voxels_that_belong_to_no_segment_are_refused(tmp_path: Path) -> None:
    file = write_by_slicerio(tmp_path / "a.seg.nrrd", nested_mask(), oblique_affine(), [segment("lung", 1, 0)])
    with pytest.raises(ValueError, match=r"a.seg.nrrd has voxels of value 2, which no segment names; save it"):
        list(read_layers(file, file))


@pytest.mark.parametrize(("layer", "reason"), [(3, "is not there"), (0, "another has as well")])
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, layer: int, reason: str) -> None:
    segments = [segment("lung", 1, 0), segment("tumour", 1, layer)]
    file = write_by_slicerio(tmp_path / "a.seg.nrrd", nested_mask() % 2, oblique_affine(), segments)
    with pytest.raises(ValueError, match=f"segment 'tumour' has layer {layer} and value 1, which {reason}; save it"):
        list(read_layers(file, file))


def test_fractions_are_refused(tmp_path: Path) -> None:
    file = write_by_slicerio(tmp_path / "a.seg.nrrd", nested_mask(), oblique_affine(), [segment("lung", 1, 0)])
    content = file.read_bytes()
    file.write_bytes(content.replace(b"Names:=Binary labelmap|", b"Names:=Fractional labelmap|"))
    with pytest.raises(ValueError, match=r"a.seg.nrrd holds fractions instead of labels; export it"):
        list(read_layers(file, file))


def test_a_segmentation_is_known_by_its_header_and_not_by_its_name(tmp_path: Path) -> None:
    written = write_by_slicerio(tmp_path / "a.seg.nrrd", nested_mask(), oblique_affine(), [segment("lung", 1, 0)])
    assert is_slicer_segmentation(written.rename(tmp_path / "a.nrrd"))
    nrrd = pytest.importorskip("nrrd")
    nrrd.write(str(tmp_path / "b.nrrd"), nested_mask())
    assert not is_slicer_segmentation(tmp_path / "b.nrrd")
