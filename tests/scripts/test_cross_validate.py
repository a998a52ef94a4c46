from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from med3d_components.utils import write_json, write_table
from scripts.commands.cross_validate import cross_validate
from scripts.folds.plan import plan_folds
from scripts.folds.scores import report_dice
from tests.bundles.workflow import names, read_table
from tests.conftest import ROOT, MakeDomain, RunBundle, write_domain


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return eight patients with a cube, whose nodule is larger where it is malignant."""
    nodules = []
    for patient in range(8):
        cube = np.random.default_rng(patient).normal(0, 0.1, (16, 16, 16)).astype(np.float32)
        mask = np.zeros(cube.shape, np.uint8)
        mask[: 4 + 8 * (patient % 2)] = 1
        (tmp_path / "data").mkdir(exist_ok=True)
        for kind, volume in (("image", cube + mask), ("mask", mask)):
            nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "data" / f"{kind}_{patient}.nii")
        entry = {kind: f"{kind}_{patient}.nii" for kind in ("image", "mask")}
        nodules.append({**entry, "patient": str(patient), "malignancy": 1 + 4 * (patient % 2)})
    write_json(tmp_path / "data" / "dataset.json", {"nodules": nodules})
    return tmp_path / "data"


def state_of(folder: Path) -> dict[str, int]:
    """Return when each model of a folder was written."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in folder.glob("*/models/model.pt")}


@pytest.mark.slow
def test_every_nodule_is_scored_once_by_a_network_that_never_saw_it(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cv"
    options = {"depth": 10, "epochs": 1, "patch_size": [16] * 3, "intensity_range": [0, 1], "num_workers": 0}
    cross_validate(str(data), str(out), folds=2, **options)
    assert names(out) == {"cases.csv", "scores.json", "roc.png", "fold_0", "fold_1"}
    rows = read_table(out / "cases.csv")
    assert sorted(row["case"] for row in rows) == [f"image_{patient}" for patient in range(8)]
    for fold in range(2):
        split = json.loads((out / f"fold_{fold}" / "models" / "split.json").read_text(encoding="utf-8"))
        found = {row["case"]: row["probability"] for row in read_table(out / f"fold_{fold}" / "eval" / "cases.csv")}
        assert set(found) == set(split["validation"])
        assert all(row["probability"] == found[row["case"]] for row in rows if row["case"] in found)
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["size alone"]["auc"] == 1
    assert len(scores["network"]["auc of each fold"]) == 2
    assert "size alone   AUC 1.000 (1.000 to 1.000), accuracy 1.000" in capfd.readouterr().out
    trained = state_of(out)
    cross_validate(str(data), str(out), folds=2, ensemble=True, **options)
    assert {name: time for name, time in state_of(out).items() if name != "ensemble"} == trained
    assert names(out / "ensemble" / "models") == {"model.pt", "settings.json", "split.json"}
    with pytest.raises(ValueError, match="was made with other settings: epochs was 1 and is now 2"):
        cross_validate(str(data), str(out), folds=2, **{**options, "epochs": 2})


@pytest.mark.slow
def test_a_cross_validated_segmentation_goes_on_where_it_was_killed_and_scores_every_case(
    tmp_path: Path, make_domain: MakeDomain, capfd: pytest.CaptureFixture[str], run_bundle: RunBundle
) -> None:
    data, out = make_domain(tmp_path / "Lungs", cases=5, spacing=(1, 1, 2)), tmp_path / "cv"
    write_domain(data / "more", cases=1, spacing=(1, 1, 3))  # no part of the data
    options = {"depth": 10, "epochs": 1, "patch_size": [16] * 3, "num_workers": 0, "device": "cpu"}
    cross_validate(str(data), str(out), bundle="lung_segmentation", folds=2, **options)
    trained = state_of(out)
    (out / "fold_1" / "done.json").unlink()  # as if it had been killed just before the end
    for name in ("cases.csv", "scores.json", "dice.png"):
        (out / name).unlink()
    capfd.readouterr()
    cross_validate(str(data), str(out), bundle="lung_segmentation", folds=2, ensemble=True, **options)
    assert "2 trainings, 1 of them finished before" in capfd.readouterr().out
    assert {name: time for name, time in state_of(out).items() if name != "ensemble"} == trained
    rows = read_table(out / "cases.csv")
    assert [row["case"] for row in rows] == [f"case_{number}" for number in range(5)]
    for row in rows:
        split = json.loads((out / f"fold_{row['fold']}" / "models" / "split.json").read_text(encoding="utf-8"))
        assert row["case"] in split["validation"]
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["Dice"]["class 1"]["mean"] == pytest.approx(np.mean([float(row["class 1"]) for row in rows]))
    assert names(out) == {"cases.csv", "scores.json", "dice.png", "fold_0", "fold_1", "ensemble"}

    config = ROOT / "bundles" / "lung_segmentation" / "configs" / "inference.json"
    run = ("run", "inference", "--config_file", config, "--ckpt_dir", out / "ensemble" / "models", "--device", "cpu")
    said = run_bundle(*run, "--dataset_dir", data / "imagesTr" / "case_0.nii.gz", "--output_dir", tmp_path / "masks")
    assert "EnsembleNet, depth 10" in said
    assert (tmp_path / "masks" / "case_0_seg.nii.gz").is_file() or list((tmp_path / "masks").glob("**/*_seg.nii.gz"))


def test_all_folds_have_the_spacing_of_all_cases(tmp_path: Path, make_domain: MakeDomain) -> None:
    data = make_domain(tmp_path / "Lungs", cases=5)
    for number, spacing in enumerate((1, 1, 2, 3, 3)):
        for kind in ("images", "labels"):
            path = data / f"{kind}Tr" / f"case_{number}.nii.gz"
            nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), np.diag([1, 1, spacing, 1])), path)
    cells = plan_folds(str(data), "lung_segmentation", 3, 0, {"depth": 10})
    assert [(cell.name, cell.options["fold"], cell.options["folds"]) for cell in cells] == [
        ("fold_0", 0, 3),
        ("fold_1", 1, 3),
        ("fold_2", 2, 3),
    ]
    assert all(cell.options["spacing"] == [1, 1, 2] for cell in cells)
    (own, *_) = plan_folds(str(data), "lung_segmentation", 3, 0, {"spacing": [2, 2, 2]})
    assert own.options["spacing"] == [2, 2, 2]


def test_the_folds_of_a_split_file_are_those_that_are_trained(tmp_path: Path, make_domain: MakeDomain) -> None:
    data, path = make_domain(tmp_path / "Lungs", cases=4), tmp_path / "splits_final.json"
    folds = [{"train": ["case_0", "case_1"], "val": [name]} for name in ("case_2", "case_3")]
    path.write_text(json.dumps(folds), encoding="utf-8")
    cells = plan_folds(str(data), "lung_segmentation", None, 0, {"split_file": str(path)})
    assert [(cell.options["fold"], cell.options["split_file"]) for cell in cells] == [(0, str(path)), (1, str(path))]
    assert not any("folds" in cell.options for cell in cells)
    with pytest.raises(ValueError, match="--folds and --split_file: only one of them"):
        plan_folds(str(data), "lung_segmentation", 2, 0, {"split_file": str(path)})


@pytest.mark.parametrize(
    ("bundle", "folds", "options", "message"),
    [
        (
            "lung_segmentation",
            2,
            {"epoch": 1},
            "--epoch is no id of the bundle lung_segmentation; did you mean --epochs",
        ),
        ("lung_segmentation", 2, {"keep": "best"}, "--keep is set by the cross-validation itself; leave it out"),
        ("lung_segmentation", 9, {}, "folds is 9, but there are 3 cases; give at most 3"),
        ("genesis_pretraining", 2, {}, "bundle is 'genesis_pretraining', but must be one of lung_segmentation, "),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(
    tmp_path: Path, make_domain: MakeDomain, bundle: str, folds: int, options: dict[str, Any], message: str
) -> None:
    data, out = make_domain(tmp_path / "Lungs", cases=3), tmp_path / "cv"
    with pytest.raises(ValueError, match=message):
        cross_validate(str(data), str(out), bundle=bundle, folds=folds, **options)
    assert not out.exists()


def test_results_of_something_else_are_not_overwritten(data: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "cv" / "scores.json", {})
    with pytest.raises(FileExistsError, match="holds other results already; choose another folder"):
        cross_validate(str(data), str(tmp_path / "cv"), folds=2)


def leave_scores(folder: Path, *tables: dict[str, tuple[float, float]]) -> list[Path]:
    """Write what trainings leave: Dice of two classes by case."""
    folds = []
    for number, table in enumerate(tables):
        fold = folder / f"fold_{number}"
        rows = [{"case": case, "a": one, "b": other} for case, (one, other) in table.items()]
        write_table(fold / "eval" / "cases.csv", rows)
        write_json(fold / "models" / "settings.json", {"classes": ["background", "a", "b"]})
        folds.append(fold)
    return folds


def test_means_are_over_cases_and_leave_out_what_a_case_lacks(tmp_path: Path) -> None:
    nan = float("nan")
    folds = leave_scores(tmp_path, {"001": (0.8, nan), "002": (0.6, nan)}, {"003": (0.4, 0.9)})
    report_dice(tmp_path, folds)
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["Dice"]["a"]["mean"] == pytest.approx(0.6)
    assert scores["Dice"]["b"]["mean"] == pytest.approx(0.9)
    assert scores["Dice"]["mean"]["mean"] == pytest.approx(0.75)
    assert scores["Dice"]["a"]["low"] < 0.6 < scores["Dice"]["a"]["high"]
    assert scores["mean Dice of each fold"] == pytest.approx([0.7, 0.65])
    assert [(row["case"], row["fold"]) for row in read_table(tmp_path / "cases.csv")] == [
        ("001", "0"),
        ("002", "0"),
        ("003", "1"),
    ]
    assert (tmp_path / "dice.png").stat().st_size > 1000


def test_a_case_that_two_folds_validate_counts_once_and_a_class_of_no_case_has_no_mean(tmp_path: Path) -> None:
    nan = float("nan")
    report_dice(tmp_path, leave_scores(tmp_path, {"x": (0.8, nan), "y": (0.2, nan)}, {"x": (0.6, nan)}))
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["cases"] == 2
    assert scores["Dice"]["a"]["mean"] == pytest.approx(0.45)
    assert scores["Dice"]["b"] == {"mean": None, "low": None, "high": None}
