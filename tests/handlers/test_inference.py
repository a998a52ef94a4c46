from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from med3d_components.handlers import FreshOutput, PredictionTable, ScanReport
from med3d_components.job import ScanJob


def test_an_inference_keeps_the_results_of_an_earlier_one_and_leaves_other_files_alone(tmp_path: Path) -> None:
    for name in ("scan_seg.nii.gz", "scan.nii.gz"):
        (tmp_path / name).write_text("earlier")
    for folder in (tmp_path, tmp_path / "none"):
        engine = Engine(lambda engine, batch: None)
        FreshOutput(folder, ["*_seg.nii.gz"]).attach(engine)
        engine.run([0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["previous", "scan.nii.gz"]
    assert (tmp_path / "previous" / "1" / "scan_seg.nii.gz").read_text(encoding="utf-8") == "earlier"


def test_each_segmented_scan_has_a_row_with_volume_and_box_in_the_world_and_a_picture(tmp_path: Path) -> None:
    affine = torch.tensor([[0.0, -2, 0, 10], [1, 0, 0, 20], [0, 0, 5, -30], [0, 0, 0, 1]])
    outputs = []
    for case, found in (("a", True), ("b", False)):
        label = torch.zeros(1, 8, 9, 10)
        if found:
            label[0, 1:3, 4:7, 5:9] = 1
            label[0, 1, 4, 5] = 2
        pred = MetaTensor(label, affine=affine, meta={"filename_or_obj": f"scans/{case}.nii.gz"})
        outputs.append({"pred": pred, "overlay": label, "image": torch.rand(1, 8, 9, 10)})
    engine = Engine(lambda engine, batch: outputs)
    items = [{"image": str(tmp_path / f"{case}.nii.gz"), "case": case} for case in ("a", "b")]
    for item in items:
        Path(item["image"]).write_bytes(b"")
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: setattr(engine.state, "batch", items))
    job = ScanJob(items, tmp_path / "a.nii.gz", tmp_path, tmp_path / ".partial", tmp_path / "model.pt", {})
    ScanReport(job, ["background", "liver", "tumour"]).attach(engine)
    for _ in range(2):
        engine.run([0])
    with (tmp_path / "scans.csv").open(newline="", encoding="utf-8") as file:
        found, missing = csv.DictReader(file)
    assert [found["case"], found["liver ml"], found["tumour ml"]] == ["a", "0.23", "0.01"]
    box = [float(found[f"{axis} {end} mm"]) for axis in "xyz" for end in ("min", "max")]
    assert box == [10 - 2 * 6.5, 10 - 2 * 3.5, 20 + 0.5, 20 + 2.5, -30 + 5 * 4.5, -30 + 5 * 8.5]
    assert [missing["liver ml"], missing["x min mm"]] == ["0.0", ""]
    assert missing["implausible"] == "no voxel of liver; no voxel of tumour"
    assert not found["implausible"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"a_overlay.png", "b_overlay.png"}


def test_each_classified_case_has_a_row_with_its_probabilities(tmp_path: Path) -> None:
    items = [{"case": "a", "patient": "p", "image": "a.nii", "center_mm": [1.0, 2.0, 3.0]}, {"case": "b", "mask": "m"}]
    outputs = [{"pred": torch.tensor([0.25, 0.75])}, {"pred": torch.tensor([0.5, 0.5])}]
    engine = Engine(lambda engine, batch: outputs)

    def set_batch(engine: Engine) -> None:
        engine.state.batch = [{"case": item["case"]} for item in items]

    engine.add_event_handler(Events.ITERATION_STARTED, set_batch)
    PredictionTable(tmp_path, ["benign", "malignant"], items).attach(engine)
    for _ in range(2):  # a second run does not repeat the rows of the first
        engine.run([0])
    rows = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    probabilities = {"probability of benign": 0.25, "probability of malignant": 0.75}
    assert rows[0] == {**items[0], "prediction": "malignant", **probabilities}
    assert [row["prediction"] for row in rows] == ["malignant", "benign"]
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(row["case"], row["patient"]) for row in table] == [("a", "p"), ("b", "")]


def test_a_probability_of_nan_is_an_error_and_not_the_first_class(tmp_path: Path) -> None:
    table = PredictionTable(tmp_path, ["benign", "malignant"], [{"case": "a"}])
    with pytest.raises(ValueError, match="The probability of a is NaN or infinite"):
        table.keep({"case": "a"}, {"pred": torch.tensor([float("nan"), float("nan")])})
