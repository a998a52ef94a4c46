"""Mistakes that people make, each a real command line: one line says what to do, and nothing is changed."""

from __future__ import annotations

import gzip
import json
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

from med3d_components.utils import write_json
from tests.bundles.workflow import configs, copy_bundle, leave_model
from tests.conftest import ROOT, write_domain
from tests.warm_python import run_module


class Mistake(NamedTuple):
    """What is run, what is typed, how the last line reads, and a limit that the system sets."""

    run_id: str
    typed: tuple[str, ...]
    line: str
    limit: tuple[int, int] | None = None


def training(option: str, value: str, line: str, *others: str) -> Mistake:
    return Mistake("training", (f"--{option}", value, *others), line)


def value(option: str, typed: str, allowed: str, run_id: str = "training") -> Mistake:
    return Mistake(run_id, (f"--{option}", typed), rf"{option} is .+, but must be {allowed}\.")


FEW = {
    "a value out of range": value("epochs", "0", "an integer, 1 or more"),
    "a misspelt option": training("epoch", "3", r"--epoch is no id of the configs; did you mean --epochs\?"),
    "a folder below a file": training("output_dir", "{data}/dataset.json/x", r".+ is a file, not a folder; .+"),
    "weights that are not there": training(
        "pretrained_weights", "{work}/no.pt", r"Pre-trained weights .+ are neither .+"
    ),
    "a web page for a scan": Mistake("inference", ("--dataset_dir", "{work}/page.nii.gz"), r".*page\.nii\.gz.*"),
    "a label that was moved": training(
        "dataset_dir", "{work}/moved", r"case_2: its label .+case_2\.nii\.gz lies up to 25 mm off its image: .+"
    ),
    "a limit on files": Mistake(
        "training", (), r"A checkpoint could not be written: the disk is full.+", (resource.RLIMIT_FSIZE, 1 << 20)
    ),
}
MANY = {
    "a learning rate that is no number": value("learning_rate", "nan", "a number above 0"),
    "a negative patch": value("patch_size", "-1", "one or three integers, each 1 or more"),
    "a patch with a side of zero": value("patch_size", "0,32,32", "one or three integers, each 1 or more"),
    "an overlap of all": value("overlap", "1", "a number of 0 or more and below 1", "inference"),
    "negative workers": value("num_workers", "-1", "an integer, 0 or more"),
    "no cases to validate": value("val_fraction", "0", "a number above 0 and at most 1"),
    "more than all cases": value("val_fraction", "2", "a number above 0 and at most 1"),
    "a range upside down": value("intensity_range", "400,-1000", "two numbers, the second above the first, or null"),
    "percentiles upside down": value("percentiles", "99,1", "two numbers, .+"),
    "half an epoch": value("epochs", "1.5", "an integer, 1 or more"),
    "a seed that is a word": value("seed", "abc", "an integer from 0 to 4294967295"),
    "a depth that no ResNet has": value("depth", "11", "10, 18, 34, 50, 101, 152 or 200"),
    "another word for a precision": value("precision", "half", "auto, bf16, fp16 or float32"),
    "a flag that is neither": value("resume", "yes", "true or false"),
    "null for a flag": value("resume", "null", "true or false"),
    "a spacing of two axes": value("spacing", "1,1", "three numbers, each above 0"),
    "a spacing of zero": value("spacing", "1,1,0", "three numbers, each above 0"),
    "widths of one group": value("widths", "3", "three pairs of integers .+"),
    "a stage that is not there": value("frozen_stages", "layer9", "names among stem, .+"),
    "no windows": value("sw_batch_size", "0", "an integer, 1 or more", "inference"),
    "an unknown device": training("device", "tpu9", r"device is 'tpu9', which cannot be used \(.+\); there is cpu.*\."),
    "an option of another bundle": training("patch_size", "48", r"--patch_size is no id of the configs; .+"),
    "a number sign in a path": training(
        "dataset_dir", "{work}/a#b", r"dataset_dir is .+a#b, but MONAI's configs take # .+"
    ),
    "no data": training("dataset_dir", "{work}/no", r".+no/dataset\.json does not exist; .+"),
    "a file for a data set": training("dataset_dir", "{data}/dataset.json", r".+dataset\.json does not exist; .+"),
    "no scans": Mistake("inference", ("--dataset_dir", "{work}/empty"), r".+empty holds no volume; give .+"),
    "no such scan": Mistake("inference", ("--dataset_dir", "{work}/no.nii.gz"), r".*no\.nii\.gz.*"),
    "a broken dataset.json": training(
        "dataset_dir", "{work}/json", r".+dataset\.json must be JSON \(.+\); mend or replace it\."
    ),
    "a scan that is cut off": training("dataset_dir", "{work}/cut", r".+case_0\.nii\.gz is cut off or damaged: .+"),
    "a label of another spacing": training(
        "dataset_dir", "{work}/spacing", r"case_2: its label .+ lies up to .+ mm off its image: its voxels have 2 x .+"
    ),
    "labels of nothing": training("dataset_dir", "{work}/nothing", r"No training label of nothing has a voxel of .+"),
    "a value that is not declared": training("dataset_dir", "{work}/value", r"label .+ holds the values 0, 7, .+"),
    "a case that is listed twice": training(
        "dataset_dir", "{work}/twice", r".+dataset\.json lists .+case_0.+ twice, .+"
    ),
    "a dataset.json of another kind": training("dataset_dir", "{work}/latin", r".+ is no text in Unicode .+"),
    "a class that is called as a column": training("dataset_dir", "{work}/column", r".+ a class is called 'case', .+"),
    "one more in a worker": training(
        "dataset_dir", "{work}/cut", r".+case_0\.nii\.gz is cut off or damaged: .+", "--num_workers", "2"
    ),
    "a folder that cannot be made": training(
        "ckpt_dir", "/proc/med3d", r"ckpt_dir is .+, but /proc cannot be written .+"
    ),
    "a file for a folder": training(
        "ckpt_dir", "{data}/dataset.json", r".+ is a file, not a folder; name another one\."
    ),
    "a device for a folder": training(
        "output_dir", "/dev/full", r".+/dev/full is a file, not a folder; name another one\."
    ),
    "nothing to resume": training("resume", "true", r".+last\.pt does not exist, so there is nothing to resume; .+"),
    "published weights without a network": training(
        "pretrained_weights", "medicalnet", r".+by hand and give the file's .+"
    ),
    "weights that are cut off": training(
        "pretrained_weights", "{work}/cut.pt", r".+cut\.pt is damaged, cut short or .+"
    ),
    "a model that is cut off": Mistake(
        "inference", ("--ckpt_dir", "{work}/cut_model/models"), r".+model\.pt is damaged, .+"
    ),
    "no model": Mistake("inference", ("--ckpt_dir", "{work}/no"), r".*There is no weight file .+model\.pt\."),
    "settings that are cut off": Mistake(
        "inference", ("--ckpt_dir", "{work}/cut_settings/models"), r".+ is not valid JSON .+"
    ),
    "a patch of one voxel": training("patch_size", "8,8,8", r"BatchNorm cannot learn from .+", "--batch_size", "1"),
}


class Workplace(NamedTuple):
    """A bundle with a model, its data, and a folder of broken files."""

    bundle: Path
    data: Path
    work: Path

    def files(self) -> dict[Path, bytes]:
        """Return all that a user has here."""
        paths = (path for folder in self[:2] for path in folder.rglob("*") if path.is_file())
        # An inference lists the scans that it could not read; a data set keeps the digests of its files.
        others = {"__pycache__", "scans.csv", ".digests.json"}
        return {path: path.read_bytes() for path in paths if not others & {*path.parts}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("mistakes")
    data, work = write_domain(folder / "data" / "Scans", cases=4), folder / "work"
    bundle = copy_bundle("lung_segmentation", folder)
    leave_model(bundle, folder / "data")
    (bundle / "eval" / "inference").mkdir(parents=True)
    (bundle / "eval" / "inference" / "case_0_seg.nii.gz").write_bytes(b"an earlier result")
    (work / "empty").mkdir(parents=True)
    (work / "page.nii.gz").write_bytes(gzip.compress(b"<html>404 not found</html>"))
    model = (bundle / "models" / "model.pt").read_bytes()
    (work / "cut.pt").write_bytes(model[:100_000])
    for name, model_bytes, settings in (("cut_model", 100_000, None), ("cut_settings", None, '{"depth": ')):
        shutil.copytree(bundle / "models", work / name / "models")
        (work / name / "models" / "model.pt").write_bytes(model[:model_bytes])
        if settings:
            (work / name / "models" / "settings.json").write_text(settings)
    for name in ("json", "cut"):
        shutil.copytree(data, work / name)
    (work / "json" / "dataset.json").write_text('{"labels": ')
    write_wrong_sets(data, work)
    # Every case, since only some of them train.
    for path in (work / "cut" / "imagesTr").iterdir():
        path.write_bytes((data / "imagesTr" / "case_0.nii.gz").read_bytes()[:3000])
    return Workplace(bundle, data, work)


def write_wrong_sets(data: Path, work: Path) -> None:
    """Write data sets whose labels or lists are wrong."""
    for name in ("moved", "spacing", "nothing", "value", "twice", "latin", "column"):
        shutil.copytree(data, work / name)
    outlined = np.asarray(nib.load(data / "labelsTr" / "case_2.nii.gz").dataobj)
    wrong = {
        "moved": (outlined, nib.affines.from_matvec(np.eye(3), [0, 25, 0]), [2]),
        "spacing": (outlined, np.diag([2, 2, 2, 1]), [2]),
        "nothing": (np.zeros_like(outlined), np.eye(4), range(4)),
        "value": (7 * outlined, np.eye(4), [2]),
    }
    for name, (label, affine, cases) in wrong.items():
        for case in cases:
            nib.save(nib.Nifti1Image(label, affine), work / name / "labelsTr" / f"case_{case}.nii.gz")
    content = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    again = {part: f"{part}sTr/../{part}sTr/case_0.nii.gz" for part in ("image", "label")}
    write_json(work / "twice" / "dataset.json", content | {"training": [*content["training"], again]})
    write_json(work / "column" / "dataset.json", content | {"labels": {"0": "background", "1": "case"}})
    text = json.dumps(content | {"name": "Möhre"}, ensure_ascii=False)
    (work / "latin" / "dataset.json").write_bytes(text.encode("latin-1"))


def run(mistake: Mistake, place: Workplace) -> subprocess.CompletedProcess[str]:
    """Run a command line, with what it names in place."""
    files = (
        configs(place.bundle, "train", "smoke") if mistake.run_id == "training" else configs(place.bundle, "inference")
    )
    options = {"--dataset_dir": str(place.data if mistake.run_id == "training" else place.data / "imagesTr")}
    typed = [part.format(data=place.data, work=place.work) for part in mistake.typed]
    options |= dict(zip(typed[::2], typed[1::2], strict=True))
    command = ["run", mistake.run_id, "--config_file", files]
    if mistake.limit:
        # A training that gets as far as its checkpoint writes into the folder of the test alone.
        options |= {"--run_dir": str(place.work / "limited")}
    command += [part for option in options.items() for part in option]
    return run_module("monai.bundle", *command, folder=ROOT, limit=mistake.limit)


def check(mistake: Mistake, place: Workplace) -> None:
    before = place.files()
    done = run(mistake, place)
    *_, last = done.stdout.rstrip().splitlines()
    print(last)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    assert re.fullmatch(f"error: {mistake.line}", last), last
    assert place.files() == before


@pytest.mark.parametrize("name", FEW)
def test_a_mistake_of_each_kind_ends_in_one_line_and_changes_nothing(name: str, place: Workplace) -> None:
    check(FEW[name], place)


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_every_mistake_ends_in_one_line_and_changes_nothing(name: str, place: Workplace) -> None:
    check(MANY[name], place)


def test_null_digits_and_home_work_on_the_command_line(place: Workplace, tmp_path: Path) -> None:
    shutil.copytree(place.data / "imagesTr", tmp_path / "2024")
    settings = json.loads((place.bundle / "models" / "settings.json").read_text(encoding="utf-8"))
    command = ["run", "inference", "--config_file", place.bundle / "configs" / "inference.json"]
    command += ["--dataset_dir", "2024", "--components", "null", "--output_dir", "~/masks"]
    done = run_module("monai.bundle", *command, folder=tmp_path, environment={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stdout
    assert len(list((tmp_path / "masks").glob("*_seg.nii.gz"))) == 4
    assert settings["classes"] == ["background", "class 1"]
