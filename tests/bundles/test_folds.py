"""Real runs: a fold that is drawn, one of a file of the user's own, and mirroring where it is scored and used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data import SegmentationDatalist
from tests.bundles.workflow import configs, copy_bundle, leave_model, read_table
from tests.conftest import MakeDomain, RunBundle


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_training_validates_on_the_fold_that_it_is_told_and_an_evaluation_scores_that(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    bundle, data = copy_bundle("lung_segmentation", tmp_path), make_domain(tmp_path / "Lungs", cases=5)
    train = ("run", "training", "--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    short = ("--device", "cpu", "--patch_size", "[16,16,16]")
    drawn = tmp_path / "drawn"
    run_bundle(*train, *short, "--epochs", 1, "--folds", 2, "--fold", 1, "--run_dir", drawn)
    split, settings = (read(drawn / "models" / f"{name}.json") for name in ("split", "settings"))
    assert set(split["validation"]) == {item["case"] for item in SegmentationDatalist(data, folds=2, fold=1).validation}
    assert (settings["folds"], settings["fold"], settings["split_file"]) == (2, 1, None)

    score = ("run", "evaluating", "--config_file", configs(bundle, "train", "evaluate"), "--dataset_dir", data)
    run_bundle(*score, "--run_dir", drawn, "--mirror", "true", "--num_workers", 0, "--device", "cpu")
    scored = {row["case"] for row in read_table(drawn / "eval" / "evaluation" / "cases.csv")}
    assert scored == set(split["validation"])
    line = run_bundle(*score, "--fold", 1, "--run_dir", drawn, fails=True).rstrip().splitlines()[-1]
    assert line == "error: --fold: an evaluation draws no cases; choose by --cases validation, unseen or all."


@pytest.mark.slow
def test_a_training_takes_the_fold_of_a_users_own_file_and_goes_on_without_it(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    bundle, data = copy_bundle("lung_segmentation", tmp_path), make_domain(tmp_path / "Lungs", cases=5)
    train = ("run", "training", "--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["case_3"], "val": ["case_0"]}]), encoding="utf-8")
    options = ("--device", "cpu", "--patch_size", "[16,16,16]", "--split_file", path)
    said = run_bundle(*train, *options, "--epochs", 1)
    assert "in neither list, and left out: 3 cases (case_1, case_2, case_4)" in said
    split, settings = (read(bundle / "models" / f"{name}.json") for name in ("split", "settings"))
    assert (list(split["training"]), list(split["validation"])) == (["case_3"], ["case_0"])
    assert (settings["folds"], settings["fold"], settings["split_file"]) == (None, 0, "splits_final.json")
    path.unlink()
    run_bundle(*train, *options, "--epochs", 2, "--resume", "true")
    assert read(bundle / "models" / "split.json") == split
    line = run_bundle(*train, *options, "--folds", 3, fails=True).rstrip().splitlines()[-1]
    assert line.startswith("error: folds is 3 and split_file is ")


@pytest.mark.usefixtures("narrow_resnets")
@pytest.mark.parametrize("name", ["lung_segmentation", "liver_ct_coarse_segmentation", "liver_ct_fine_segmentation"])
def test_the_mirrored_mask_of_a_mirrored_scan_is_that_of_the_scan(
    name: str, varied_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai.bundle import run

    bundle = copy_bundle(name, tmp_path)
    scans = tmp_path / "scans"
    scans.mkdir()
    volume = np.random.default_rng(0).normal(0, 60, (32, 28, 24)).astype(np.float32)
    volume[4:18, 5:20, 6:18] += 100
    for file, data in (("plain", volume), ("mirrored", volume[::-1])):
        nib.save(nib.Nifti1Image(data, np.eye(4)), scans / f"{file}.nii.gz")
    leave_model(bundle, varied_data, scan=str(scans / "plain.nii.gz"))
    shares = []
    for mirror in (True, False):
        out = tmp_path / f"masks_{mirror}"
        options = {"dataset_dir": str(scans), "output_dir": str(out), "mirror": mirror, "precision": "float32"}
        files = str(bundle / "configs" / "inference.json")
        run("inference", config_file=files, device="cpu", bundle_root=str(bundle), **options)
        found = {file: next(out.glob(f"**/{file}_seg.nii.gz")) for file in ("plain", "mirrored")}
        masks = {file: np.asarray(nib.load(path).dataobj) for file, path in found.items()}
        shares.append((masks["plain"] != masks["mirrored"][::-1]).mean())
    assert shares[0] < 0.001  # and without mirroring they differ, so that this says something
    assert shares[1] > 0.1


def test_mirroring_is_refused_where_a_class_names_a_side(
    tmp_path: Path, varied_data: Path, run_bundle: RunBundle
) -> None:
    bundle = copy_bundle("lung_segmentation", tmp_path)
    leave_model(bundle, varied_data)
    path = bundle / "models" / "settings.json"
    path.write_text(json.dumps({**read(path), "classes": ["background", "left lung"]}), encoding="utf-8")
    infer = ("run", "inference", "--config_file", bundle / "configs" / "inference.json", "--mirror", "true")
    line = run_bundle(*infer, "--dataset_dir", varied_data / "Scans" / "imagesTr", fails=True).rstrip().splitlines()[-1]
    assert line.startswith("error: mirror is true, but of the classes left lung some name a side")
