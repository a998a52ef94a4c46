"""A study as a hospital exports it, from the scanner's files to masks that other programs read."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from med3d_components.commands import segment
from med3d_components.utils import write_json
from tests.bundles.workflow import BrightIsForeground, read_table
from tests.data.dicom_files import write_object, write_slices
from tests.masks.shapes import SHAPE, ball, oblique_affine

SimpleITK = pytest.importorskip("SimpleITK")
CLASSES = ["background", "lung"]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def organ() -> NDArray[np.bool_]:
    """Return a ball with a hole in which there is a smaller ball."""
    shell = ball((18, 15, 12), 11) & ~ball((17, 15, 12), 5)
    return shell | ball((17, 15, 12), 2)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return the folder of a patient: a CT whose slices lie in two folders, a localizer, an RTSTRUCT and a report."""
    folder = tmp_path / "DOE_JANE" / "study"
    stored = np.where(organ(), 1164, 924) + np.random.default_rng(0).integers(-20, 20, SHAPE)

    def name(header: pydicom.Dataset, k: int) -> None:
        header.PatientName, header.PatientID = "DOE^JANE", "4711"
        header.SeriesNumber = 1 + k // 15  # the scanner counted anew, as some do

    uid = write_slices(folder / "part_1", stored, oblique_affine(), change=name)
    (folder / "part_2").mkdir()
    for file in sorted((folder / "part_1").iterdir())[15:]:
        file.rename(folder / "part_2" / file.name)

    def locate(header: pydicom.Dataset, k: int) -> None:
        header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_slices(folder / "part_1", stored[:, :, :1], np.eye(4), change=locate)
    write_object(folder / "RS.dcm", "1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT")
    (folder / "report.txt").write_text("no volume")
    (tmp_path / "uid").write_text(uid)
    return folder


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a model that answers by intensity, at the spacing of the scan: all but the network is the bundle's."""

    def build(settings: dict[str, Any], **training: Any) -> BrightIsForeground:
        network = BrightIsForeground().eval()
        network.settings = settings
        return network

    monkeypatch.setattr("med3d_components.networks.build_network", build)
    spacing = np.linalg.norm(oblique_affine()[:3, :3], axis=0)
    settings = {
        "bundle": "lung_segmentation",
        "network": {"task": "segmentation"},
        "classes": CLASSES,
        "spacing": spacing.tolist(),
        "roi_size": [48, 48, 48],
        "channel": None,
        "percentiles": [0.5, 99.5],
        "intensity_range": None,
    }
    folder = tmp_path / "model"
    write_json(folder / "settings.json", settings)
    share = organ().mean()  # of bright voxels: halfway between the two intensities, as the z-score maps them
    torch.save({"threshold": torch.tensor((0.5 - share) / (share * (1 - share)) ** 0.5)}, folder / "model.pt")
    return folder


def corners(shape: tuple[int, ...], to_world: NDArray[Any]) -> NDArray[Any]:
    return apply_affine(to_world, np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1).T)


def test_the_masks_of_a_study_lie_right_in_every_format_for_the_programs_of_others(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hd = pytest.importorskip("highdicom")
    out, uid = tmp_path / "out", (tmp_path / "uid").read_text()
    formats = ["nii.gz", "dicom-seg", "rtstruct", "seg.nrrd"]
    table = segment(str(model), str(study), str(out), format=formats, components=None)
    (row,) = read_table(table)
    assert row["case"] == uid
    shown = capsys.readouterr().out
    for told in ("1 x RTSTRUCT", "1 x localizer", "1 entry is no volume: report.txt"):
        assert told in shown
    found = {path.name for path in out.rglob("*") if path.is_file()}
    assert not [name for name in found if "DOE" in name]
    assert "DOE" not in table.read_text(encoding="utf-8").replace(row["image"], "")

    # The scan, as SimpleITK reads it by the order of its slices.
    files = sorted([*(study / "part_1").iterdir(), *(study / "part_2").iterdir()])
    headers = [(pydicom.dcmread(file), file) for file in files]
    slices = [(header.InstanceNumber, str(file)) for header, file in headers if "LOCALIZER" not in header.ImageType]
    scan = SimpleITK.ReadImage([file for _, file in sorted(slices)])
    points = [scan.TransformIndexToPhysicalPoint([int(i) for i in index]) for index in np.ndindex(2, 2, 2)]
    assert scan.GetSize() == SHAPE
    truth = organ()

    for name in (f"{uid}_seg.nii.gz", f"{uid}_seg.seg.nrrd"):
        mask = SimpleITK.ReadImage(str(out / name))
        assert np.array_equal(SimpleITK.GetArrayFromImage(mask).T > 0, truth)
        there = [mask.TransformIndexToPhysicalPoint([int(i) for i in index]) for index in np.ndindex(2, 2, 2)]
        np.testing.assert_allclose(there, points, atol=0.01)
    nifti = nib.load(out / f"{uid}_seg.nii.gz")
    np.testing.assert_allclose(corners(SHAPE, nifti.affine), corners(SHAPE, oblique_affine()), atol=0.01)
    assert np.array_equal(np.asarray(nifti.dataobj) > 0, truth)

    volume = hd.seg.segread(out / f"{uid}_seg.seg.dcm").get_volume(combine_segments=True)
    indices = np.argwhere(volume.array)
    there = apply_affine(np.linalg.inv(oblique_affine()) @ LPS @ volume.affine, indices)
    assert np.abs(there - np.rint(there)).max() < 0.01
    assert {tuple(index) for index in np.rint(there).astype(int)} == {tuple(index) for index in np.argwhere(truth)}


def test_plastimatch_reads_the_structure_set_of_a_study_with_its_hole(study: Path, model: Path, tmp_path: Path) -> None:
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed, which reads RTSTRUCT (apt install plastimatch)")
    out, uid = tmp_path / "out", (tmp_path / "uid").read_text()
    segment(str(model), str(study), str(out), format=["rtstruct"], components=None)
    files = [file for part in ("part_1", "part_2") for file in (study / part).iterdir()]
    slices = tmp_path / "slices"  # plastimatch reads one folder, and takes the localizer for a slice
    slices.mkdir()
    for number, file in enumerate(files):
        if "LOCALIZER" not in pydicom.dcmread(file).ImageType:
            shutil.copy(file, slices / f"{number}.dcm")
    command = ["plastimatch", "convert", "--input", out / f"{uid}_seg.rtstruct.dcm", "--referenced-ct", slices]
    command += ["--output-prefix", tmp_path / "read", "--prefix-format", "nrrd", "--output-cxt", tmp_path / "read.cxt"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "read" / "lung.nrrd"))).T > 0
    truth = organ()
    assert 2 * (read & truth).sum() / (read.sum() + truth.sum()) >= 0.99
    assert not read[17, 15 + 4, 12]
    assert read[17, 15, 12]
    lines = (tmp_path / "read.cxt").read_text().split("END_OF_ROI_NAMES\n")[1].splitlines()
    contours = np.concatenate([np.array(line.split("|")[-1].split("\\"), float).reshape(-1, 3) for line in lines])
    planes = apply_affine(np.linalg.inv(oblique_affine()) @ LPS, contours)[:, 2]
    assert np.abs(planes - np.rint(planes)).max() * 2.5 < 0.01


def test_one_broken_series_of_a_study_does_not_cost_the_other(study: Path, model: Path, tmp_path: Path) -> None:
    file = sorted((study / "part_2").iterdir())[3]
    file.unlink()
    write_slices(study / "again", np.full(SHAPE, 1100) + np.where(organ(), 64, -176), oblique_affine())
    with pytest.raises(ValueError, match=r"^1 of 2 scans have no result\. .*(misses slices|unevenly)"):
        segment(str(model), str(study), str(tmp_path / "out"), components=None)
    assert sorted(bool(row["error"]) for row in read_table(tmp_path / "out" / "scans.csv")) == [False, True]
