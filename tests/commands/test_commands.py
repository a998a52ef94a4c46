"""The commands of ``python -m med3d_components``, which run a bundle's own configs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from med3d_components.__main__ import COMMANDS
from med3d_components.commands import classify, evaluate, segment, train
from med3d_components.utils import run_commands
from scripts.commands.pack_bundles import pack_bundle
from tests.bundles.workflow import copy_bundle, leave_model, read_table, write_data
from tests.conftest import ROOT
from tests.warm_python import run_module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of segmentation with the weights of a training of no epochs."""
    bundle = copy_bundle("lung_segmentation", tmp_path_factory.mktemp("trained"))
    leave_model(bundle, data)
    return bundle


def mask(out: Path) -> np.ndarray:
    return np.asarray(nib.load(out / "case_0_seg.nii.gz").dataobj)


def test_a_model_is_given_as_its_folder_its_bundle_or_a_zip(trained: Path, data: Path, tmp_path: Path) -> None:
    scan = str(data / "Scans" / "imagesTr" / "case_0.nii.gz")
    moved = Path(shutil.copytree(trained / "models", tmp_path / "moved"))  # settings.json tells the bundle
    packed = pack_bundle(trained, tmp_path, trained / "models" / "model.pt")
    found = []
    for number, model in enumerate((trained, trained / "models", moved, packed)):
        table = segment(model=str(model), input=scan, output=str(tmp_path / str(number)))
        assert [row["case"] for row in read_table(table)] == ["case_0"]
        found.append(mask(tmp_path / str(number)))
    assert 0 < found[0].mean() < 1
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_options_are_those_of_the_bundle(trained: Path, data: Path, tmp_path: Path) -> None:
    scan, out = str(data / "Scans" / "imagesTr" / "case_0.nii.gz"), str(tmp_path / "out")
    segment(str(trained), scan, out, output_postfix="lungs")
    assert (tmp_path / "out" / "case_0_lungs.nii.gz").is_file()
    with pytest.raises(ValueError, match=r"^--overlp is no id of the inference of lung_segmentation; did you mean"):
        segment(str(trained), scan, out, overlp=0.5)
    with pytest.raises(ValueError, match=r"^overlap is 2, but must be"):
        segment(str(trained), scan, out, overlap=2)


def test_a_bundle_is_trained_evaluated_and_classifies(data: Path, tmp_path: Path) -> None:
    nodules, run = str(data / "Nodules"), tmp_path / "run"
    train("lung_nodule_ct_classification", nodules, run_dir=str(run), configs="train,smoke", seed=1)
    file = evaluate(str(run), nodules)
    scores = json.loads(file.read_text(encoding="utf-8"))
    page = file.with_name("evaluation.html").read_text(encoding="utf-8")
    assert "<td>val_auc</td>" in page
    assert page.count("data:image/png") == 2  # the sheet of cubes and the curve
    (row,) = [row for row in read_table(run / "eval" / "metrics.csv") if float(row["val_auc"]) == scores["val_auc"]][:1]
    assert row["epoch"]
    table = read_table(classify(str(run / "models"), nodules, str(tmp_path / "out")))
    assert len(table) == 6


MISTAKES: dict[str, tuple[Callable[..., Any], dict[str, str], str]] = {
    "no model": (segment, {"model": "{tmp}"}, "holds no model.pt, nor does its models/; train first."),
    "no folder": (segment, {"model": "{tmp}/none"}, "is no folder; name that of model.pt, that of a bundle, or"),
    "no zip": (segment, {"model": "{tmp}/broken.zip"}, "broken.zip is no zip, or is cut off"),
    "other task": (classify, {"model": "{trained}"}, "is a model of lung_segmentation; use the command segment."),
    "no scan": (segment, {"model": "{trained}", "input": "{tmp}/none"}, "none"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_one_line(mistake: str, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK")
    command, arguments, message = MISTAKES[mistake]
    given = {"input": "scans", "output": str(tmp_path / "out"), **arguments}
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        command(**{name: value.format(tmp=tmp_path, trained=trained) for name, value in given.items()})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_is_not_there_and_a_zip_without_a_place_for_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^There is no bundle lungs; name its folder, or one of genesis_pre"):
        train("lungs", str(tmp_path))
    (tmp_path / "model.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.zip is a zip, which results cannot go into; name a folder by"):
        evaluate(str(tmp_path / "model.zip"), str(tmp_path))


def run(*arguments: object) -> tuple[int, str]:
    """Run the command line; return its exit code and its last line."""
    done = run_module("med3d_components", *arguments, folder=ROOT)
    return done.returncode, done.stdout.splitlines()[-1]


def test_the_command_line_ends_in_one_line_and_exit_code_1(tmp_path: Path) -> None:
    told = f"error: {tmp_path} holds no model.pt, nor does its models/; train first."
    assert run("segment", "--model", tmp_path, "--input", "x", "--output", "y") == (1, told)


def test_a_broken_scan_makes_the_exit_code_1_until_it_is_mended(trained: Path, data: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for case in (0, 1):
        shutil.copy(data / "Scans" / "imagesTr" / f"case_{case}.nii.gz", scans)
    whole = (scans / "case_1.nii.gz").read_bytes()
    (scans / "case_1.nii.gz").write_bytes(whole[: len(whole) // 2])
    command = ("segment", "--model", trained, "--input", scans, "--output", out)
    code, line = run(*command)
    assert code == 1
    assert re.fullmatch(r"error: 1 of 2 scans have no result\. case_1: .+case_1\.nii\.gz is cut off.+", line)
    before = (out / "case_0_seg.nii.gz").stat().st_mtime_ns
    (scans / "case_1.nii.gz").write_bytes(whole)
    assert run(*command) == (0, f"{out}/scans.csv")
    assert (out / "case_0_seg.nii.gz").stat().st_mtime_ns == before
    assert (out / "case_1_seg.nii.gz").is_file()


def test_folders_of_any_name_are_taken_as_they_are_typed(trained: Path, data: Path, tmp_path: Path) -> None:
    scan = data / "Scans" / "imagesTr" / "case_0.nii.gz"
    for name in ("2024", "a,b", "None", "@eaDir", "%x", "$open('pwned','w').name", "sp ace"):
        (tmp_path / name).mkdir()
        shutil.copy(scan, tmp_path / name)
    for number, name in enumerate(("2024", "a,b", "None", "@eaDir", "%x", "$open('pwned','w').name", "sp ace")):
        arguments = ["segment", "--model", str(trained), "--input", name, f"--output=o{number}"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            run_commands(COMMANDS, None, arguments)
        assert (tmp_path / f"o{number}" / "case_0_seg.nii.gz").is_file()
    assert not (tmp_path / "pwned").exists()


def test_a_number_sign_in_a_path_is_refused_and_takes_no_other_folder(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("scans", "scans#2", "model"):
        (tmp_path / name).mkdir()
    with pytest.raises(SystemExit):
        run_commands(COMMANDS, None, ["segment", str(trained), str(tmp_path / "scans#2"), str(tmp_path / "out")])
    assert "scans#2, but MONAI's configs take # for part of an id" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_commands(COMMANDS, None, ["segment", f"--model={tmp_path / 'model'}#1", "--input", "x", "--output", "y"])
    assert "model#1 is no folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_text_is_not_evaluated(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^output_postfix is '\$1', which MONAI would evaluate"):
        segment(str(trained), str(tmp_path), str(tmp_path / "out"), output_postfix="$1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"null", "was written by version 0.1"),
        ('{"network": {}, "bundle": "M\u00fcller"}'.encode("latin-1"), "is not valid JSON"),
        (b'{"network": {}}', "lacks bundle"),
        (b'{"network": {"task": "segmentation"}, "bundle": "lung_segmentation"}', "lacks classes, spacing, roi_size"),
    ],
)
def test_settings_that_are_none_are_told_in_one_line(
    content: bytes, message: str, trained: Path, data: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(trained / "models", tmp_path / "model"))
    (model / "settings.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        segment(str(model), str(data / "Scans" / "imagesTr"), str(tmp_path / "out"))


def test_a_model_that_is_cut_off_is_told_in_one_line(trained: Path, data: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(trained / "models", tmp_path / "model"))
    (model / "model.pt").write_bytes((model / "model.pt").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.pt is damaged"):
        segment(str(model), str(data / "Scans" / "imagesTr"), str(tmp_path / "out"))
