"""A folder of scans as one job, by the inference of a bundle on real files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from med3d_components.job import IncompleteError, ScanJob
from med3d_components.utils.causes import root_cause
from med3d_components.utils.writer_lock import WriterLock
from tests.bundles.workflow import copy_bundle, leave_model, names, read_table
from tests.conftest import write_domain

pytestmark = pytest.mark.usefixtures("narrow_resnets")


@pytest.fixture(scope="module")
def bundle(narrow_resnets: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with the weights of a training of no epochs."""
    folder = tmp_path_factory.mktemp("job")
    bundle = copy_bundle("lung_segmentation", folder)
    write_domain(folder / "Scans", cases=3, size=(32, 28, 24))
    leave_model(bundle, folder)
    return bundle


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Return a folder of four scans."""
    (tmp_path / "scans").mkdir()
    for number in range(4):
        write_scan(tmp_path / "scans" / f"scan_{number}.nii.gz", number)
    return tmp_path / "scans"


def write_scan(path: Path, seed: int) -> None:
    volume = np.random.default_rng(seed).integers(-1000, 400, (20, 18, 16), np.int16)
    nib.save(nib.Nifti1Image(volume, np.diag([1.5, 1.5, 1.5, 1])), path)


def infer(bundle: Path, scans: Path, out: Path, **options: Any) -> None:
    """Run the inference, and raise the error itself."""
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(scans),
        output_dir=str(out),
        **options,
    )
    try:
        workflow.initialize()
        workflow.run()
    except RuntimeError as error:
        raise root_cause(error) from None


def masks(out: Path) -> dict[str, int]:
    """Return the time of each mask."""
    return {path.name.removesuffix("_seg.nii.gz"): path.stat().st_mtime_ns for path in out.glob("*_seg.nii.gz")}


def test_five_broken_scans_of_twenty_cost_five_masks_and_a_second_run_does_what_is_missing(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for number in range(20):
        write_scan(scans / f"scan_{number:02}.nii.gz", number)
    broken = {number: scans / f"scan_{number:02}.nii.gz" for number in (0, 6, 7, 13, 19)}
    broken[0].write_bytes(broken[0].read_bytes()[:3000])
    broken[6].write_text("no volume")
    broken[7].write_bytes(b"")
    nib.save(nib.Nifti1Image(np.zeros((4, 4), np.int16), np.eye(4)), broken[13])
    nib.save(nib.Nifti1Image(np.full((9, 9, 9), np.nan, np.float32), np.eye(4)), broken[19])

    with pytest.raises(IncompleteError, match=r"^5 of 20 scans have no result. scan_00: .*scan_06: .*scan_19: .+"):
        infer(bundle, scans, out)
    rows = {row["case"]: row for row in read_table(out / "scans.csv")}
    reasons = {case: row["error"] for case, row in rows.items() if row["error"]}
    assert len(rows) == 20
    assert reasons.keys() == {f"scan_{number:02}" for number in broken}
    assert all(str(broken[int(case[-2:])]) in reason for case, reason in reasons.items())
    before = masks(out)
    assert before.keys() == rows.keys() - reasons.keys()

    write_scan(broken[7], 7)
    with pytest.raises(IncompleteError, match=r"^4 of 20 scans have no result"):
        infer(bundle, scans, out)
    after = masks(out)
    assert after.keys() - before.keys() == {"scan_07"}
    assert {case: after[case] for case in before} == before
    assert "previous" not in names(out)


def test_other_options_weights_or_scans_move_the_old_result_aside(bundle: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer(bundle, scans, out)
    first = masks(out)
    infer(bundle, scans, out)
    assert masks(out) == first

    write_scan(scans / "scan_2.nii.gz", 77)
    infer(bundle, scans, out)
    second = masks(out)
    assert {case for case in first if first[case] != second[case]} == {"scan_2"}
    files = {"scan_2_seg.nii.gz", "scan_2_seg.ctbl", "scan_2_seg.label.txt", "scan_2_overlay.png"}
    assert names(out / "previous" / "1") == files

    infer(bundle, scans, out, overlap=0.5)
    third = masks(out)
    assert not set(second.values()) & set(third.values())
    assert len([*out.glob("previous/*/*_seg.nii.gz")]) == 5


def test_a_file_of_somebody_else_is_left_alone(bundle: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "scan_1_seg.nii.gz").write_bytes(b"a reference")
    with pytest.raises(IncompleteError, match=r"^1 of 4 .+scan_1_seg\.nii\.gz is in the way, and scans\.csv does not"):
        infer(bundle, scans, out)
    assert (out / "scan_1_seg.nii.gz").read_bytes() == b"a reference"
    assert masks(out).keys() == {"scan_0", "scan_1", "scan_2", "scan_3"}
    assert not (out / "previous").exists()


def test_results_are_not_written_where_they_would_be_read_as_scans(bundle: Path, scans: Path) -> None:
    before = names(scans)
    for out in (scans, scans / "masks"):
        with pytest.raises(
            ValueError, match=r"^output_dir is .+, where a result would be read as a scan; name another\.$"
        ):
            infer(bundle, scans, out)
    assert names(scans) == before


@pytest.mark.parametrize("when", ["before the picture", "before the row"])
def test_a_run_that_is_killed_leaves_no_half_of_a_result_in_the_way(
    bundle: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    out = tmp_path / "out"
    infer(bundle, scans / "scan_0.nii.gz", out)
    (done,) = masks(out)

    def kill(*arguments: Any, **options: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        if when == "before the picture":
            patch.setattr("med3d_components.handlers.inference.draw_overlays", kill)
        else:
            patch.setattr(Path, "replace", kill)
        with pytest.raises(SystemExit):
            infer(bundle, scans, out)
    assert masks(out).keys() == {done}
    infer(bundle, scans, out)
    assert masks(out).keys() == {"scan_0", "scan_1", "scan_2", "scan_3"}
    assert not (out / "previous").exists()


def test_a_first_run_in_which_all_fails_can_be_repeated(bundle: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    (scans / "a.nii.gz").write_text("no volume")
    for _ in range(2):
        with pytest.raises(IncompleteError, match=r"a\.nii\.gz is not a readable NIfTI file"):
            infer(bundle, scans, out)
    write_scan(scans / "a.nii.gz", 0)
    infer(bundle, scans, out)
    assert [row["error"] for row in read_table(out / "scans.csv")] == [""]


def test_the_earlier_result_of_a_scan_that_fails_now_moves_aside(bundle: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer(bundle, scans, out)
    (scans / "scan_1.nii.gz").write_text("no volume")
    with pytest.raises(IncompleteError, match=r"^1 of 4"):
        infer(bundle, scans, out)
    assert masks(out).keys() == {"scan_0", "scan_2", "scan_3"}
    assert "scan_1_seg.nii.gz" in names(out / "previous" / "1")


def test_names_that_begin_alike_or_hold_a_separator_keep_their_results_apart(bundle: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for number, name in enumerate(("p1", "p1_segment", "p1_seg_b", "a;b%")):
        write_scan(scans / f"{name}.nii.gz", number)
    infer(bundle, scans, out)
    before = masks(out)
    (out / "p1_seg.nii.gz").unlink()
    infer(bundle, scans, out)
    after = masks(out)
    assert after.keys() == before.keys() == {"p1", "p1_segment", "p1_seg_b", "a;b%"}
    assert {name for name in after if after[name] != before[name]} == {"p1"}
    infer(bundle, scans, out, output_postfix="pred")
    assert (out / "p1_pred.nii.gz").is_file()


def test_a_full_disk_stops_the_job(bundle: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "mask.nii.gz")

    monkeypatch.setattr("med3d_components.masks.nifti.atomic_path", fill)
    with pytest.raises(OSError, match="No space left on device"):
        infer(bundle, scans, tmp_path / "out")
    assert not masks(tmp_path / "out")


def test_an_implausible_mask_is_said(
    bundle: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    infer(bundle, scans / "scan_0.nii.gz", out)
    (row,) = read_table(out / "scans.csv")
    name = next(key for key in row if key.endswith(" ml"))
    volume, organ = float(row[name]), name.removesuffix(" ml")
    settings = json.loads((bundle / "models" / "settings.json").read_text(encoding="utf-8"))
    assert 0 < settings["volumes_ml"][organ][0] <= settings["volumes_ml"][organ][1]
    for low, high, implausible in ((4, 5, True), (0.1, 0.3, True), (2, 5, False), (0.1, 0.5, False)):
        caplog.clear()
        known = {organ: [low * volume, high * volume]}
        infer(bundle, scans / "scan_0.nii.gz", out, settings={**settings, "volumes_ml": known})
        assert ("of which the training labels have" in caplog.text) == implausible
        (row,) = read_table(out / "scans.csv")
        assert bool(row["implausible"]) == implausible


def test_a_table_that_excel_has_saved_is_read_and_one_of_something_else_is_refused(
    bundle: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    infer(bundle, scans, out)
    before, table = masks(out), out / "scans.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    infer(bundle, scans, out)
    assert masks(out) == before
    for content in (b"name;volume\nscan_0;3\n", "case,image,fingerprint\nM\u00fcller,a,b\n".encode("cp1252")):
        table.write_bytes(content)
        with pytest.raises(ValueError, match=r"scans\.csv is not a table of this version; move it, or name another"):
            infer(bundle, scans, out)
    assert masks(out) == before


def test_two_runs_do_not_write_into_one_folder(bundle: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    wanted = (
        r"^output_dir is .+out, into which process \d+ on .+ has written since .+; wait for its end, or name another"
    )
    with WriterLock(out), pytest.raises(ValueError, match=wanted):
        infer(bundle, scans, out)
    assert not list(out.iterdir())


def test_what_a_killed_run_was_writing_is_removed_by_the_next_one(bundle: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in (".writing-a1b2", ".partial"):
        (out / name).mkdir(parents=True)
        (out / name / "scans.csv").write_text("half")
    infer(bundle, scans, out)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_a_run_that_is_interrupted_leaves_no_lock(
    bundle: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: ScanJob, case: str, row: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ScanJob, "keep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            infer(bundle, scans, out)
    assert not out.exists()
    infer(bundle, scans, out)
    assert len(masks(out)) == 4
