from __future__ import annotations

from pathlib import Path

import pytest

from med3d_components.utils import write_table
from scripts.study.cells import run_cells
from scripts.study.results import list_unfinished, list_warnings, read_results, study_rows
from tests.scripts.study.conftest import MakeStudy, Stub, make_cell


def test_best_end_and_cases_come_from_the_tables_of_the_bundle(make_study: MakeStudy) -> None:
    result = read_results(make_study({"scratch": [(0.2, 0.6, 0.5)]}))[0]
    assert result.curve == ((20, 0.2), (40, 0.6), (60, 0.5))
    assert (result.best, result.end) == (0.6, 0.5)
    assert result.last == {"epoch": 6, "train_loss": 1, "val_mean_dice": 0.5, "accuracy": 0.75}
    assert result.cases == pytest.approx({"a": 0.6, "b": 0.4, "c": 0.5, "without": float("nan")}, nan_ok=True)


def test_a_classified_case_scores_whether_it_is_right(make_study: MakeStudy) -> None:
    out = make_study({"scratch": [(0.5,)]})
    rows = [("benign", 0.2), ("benign", 0.5), ("class 1", 0.5), ("class 1", 0.4)]
    cases = [{"case": f"{i}", "label": label, "probability": p} for i, (label, p) in enumerate(rows)]
    write_table(out / "cells" / "R10_scratch_share1_seed0" / "eval" / "cases.csv", cases)
    assert read_results(out)[0].cases == {"0": 1, "1": 0, "2": 1, "3": 0}


def test_a_case_without_a_probability_is_not_taken_for_benign(make_study: MakeStudy) -> None:
    out = make_study({"scratch": [(0.5,)]})
    cases = [{"case": "a", "label": "benign", "probability": float("nan")}]
    write_table(out / "cells" / "R10_scratch_share1_seed0" / "eval" / "cases.csv", cases)
    with pytest.raises(ValueError, match=r"cases\.csv has no probability of a; the network gave none"):
        read_results(out)


def test_the_factor_is_scratchs_iterations_to_its_best_over_those_to_the_same_score(make_study: MakeStudy) -> None:
    scratch = [(0.1, 0.2, 0.4, 0.6), (0.1, 0.3, 0.2, 0.2)]
    med3d = [(0.6, 0.8, 0.8, 0.8), (0.2, 0.2, 0.2, 0.2)]
    out = make_study({"scratch": scratch, "scratch_0.001": [(0.7, 0.1, 0.1, 0.1)], "med3d": med3d})
    rows = {(row["init"], row["seed"]): row for row in study_rows(read_results(out))}
    fast, never = rows["med3d", 0], rows["med3d", 1]
    assert (fast["iterations_to_scratch"], fast["factor_to_scratch"]) == (20, 4)
    assert fast["seconds_to_scratch"] == pytest.approx(fast["seconds"] / 4, abs=0.1)
    assert (never["iterations_to_scratch"], never["seconds_to_scratch"], never["factor_to_scratch"]) == (None,) * 3
    assert (fast["iterations_to_scratch_0.001"], fast["factor_to_scratch_0.001"]) == (40, 0.5)
    assert "factor_to_scratch_0.001" not in never  # that seed has no such scratch
    assert (rows["scratch", 1]["best"], rows["scratch", 1]["best_iteration"]) == (0.3, 40)
    assert (rows["scratch", 1]["factor_to_scratch"], rows["scratch", 1]["end"]) == (1, 0.2)


def test_rows_are_in_the_order_of_a_table(tmp_path: Path) -> None:
    inits = ("domains_8", "domains_16", "scratch_0.001", "scratch")
    cells = [make_cell(init, network=network) for init in inits for network in ("U-Net", "R101", "R18")]
    cells += [make_cell("scratch", share=share, network="R18") for share in (0.1, 0.25)]
    run_cells(cells, tmp_path, Stub())
    groups = [result.group for result in read_results(tmp_path)]
    ordered = ["scratch", "scratch_0.001", "domains_8", "domains_16"]
    assert groups[:6] == [*(("R18", 1, init) for init in ordered), ("R18", 0.25, "scratch"), ("R18", 0.1, "scratch")]
    assert groups[6:] == [(network, 1, init) for network in ("R101", "U-Net") for init in ordered]


def test_cells_without_a_result_and_warnings_are_listed(tmp_path: Path) -> None:
    stub = Stub()
    run_cells([make_cell(seed=0)], tmp_path, stub)
    stub.code = 1
    run_cells([make_cell(seed=1)], tmp_path, stub)
    stub.code, stub.curves = 0, {"R10_scratch_share1_seed2": (0.5, float("nan"))}
    run_cells([make_cell(seed=2)], tmp_path, stub)
    assert list_unfinished(tmp_path) == [
        ("R10_scratch_share1_seed1", "error: no luck"),
        ("R10_scratch_share1_seed2", "ended without a score, as a training does that diverged"),
    ]
    assert [result.facts["seed"] for result in read_results(tmp_path)] == [0]
    assert list_warnings(tmp_path) == ["seen before"]
