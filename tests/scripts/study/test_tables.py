from __future__ import annotations

import pytest

from scripts.study.paper import PAPER, paper_column
from scripts.study.results import read_results, study_rows
from scripts.study.statistics import compare_inits
from scripts.study.tables import comparison_table, convergence_table, paper_table, score_table
from tests.scripts.study.conftest import MakeStudy

NODULES = "lung_nodule_ct_classification"


def test_the_papers_numbers_stand_beside_ours(make_study: MakeStudy) -> None:
    curves = {"scratch": [(0.5,), (0.7,)], "genesis": [(0.5,)], "med3d": [(0.9,)], "kinetics": [(0.5,)]}
    results = read_results(make_study(curves, kinetics="kinetics:/k.pth", genesis="genesis:/g.pt", med3d="/m.pt"))
    header, rows = paper_table(results, NODULES) or ([], [])
    assert rows[0] == ["R10", "79.80", "75.00 ± 0.00", "-", "75.00", "86.87", "75.00", "75.00"]
    assert list(header) == [
        *("Network", "TFS, paper", "scratch, ours", "Kin, paper", "kinetics, ours"),
        *("Med3D, paper", "med3d, ours", "genesis, ours"),
    ]
    assert paper_table(results, "liver_ct_coarse_segmentation") is None


@pytest.mark.parametrize("bundle", ["lung_segmentation", NODULES])
def test_table_2_has_the_networks_of_the_paper(bundle: str) -> None:
    assert list(PAPER[bundle].rows) == ["R10", "R18", "R34", "R50", "R101", "R152", "R200", "PreR200"]


def test_only_weights_that_the_paper_has_stand_beside_its_columns() -> None:
    columns = [
        paper_column(*init)
        for init in (
            ("scratch_0.001", "none"),
            ("x", "kinetics:/k.pth"),
            ("x", "medicalnet"),
            ("x", "medicalnet_23"),
            ("Med3D-own", "/encoder.pt"),
            ("domains_1", "/encoder.pt"),
        )
    ]
    assert columns == ["TFS", "Kin", "Med3D", None, "Med3D", None]


def test_scores_are_means_and_spreads_over_seeds(make_study: MakeStudy) -> None:
    out = make_study({"scratch": [(0.6, 0.5), (0.8, 0.7)], "med3d": [(0.9, 0.9)]}, shares=(0.1, 1))
    rows = score_table(read_results(out))[1]
    assert rows[0][:9] == ["R10", "100 %", "40", "scratch", "0.01", "2", "0.700 ± 0.141", "0.600 ± 0.141", "80"]
    assert rows[3][:8] == ["R10", "10 %", "4", "med3d", "0.01", "1", "0.900", "0.900"]


def test_convergence_tells_how_many_seeds_reach_scratch_and_the_median_of_those(make_study: MakeStudy) -> None:
    scratch = [(0.1, 0.2, 0.4, 0.6)] * 3
    med3d = [(0.6, 0.8, 0.8, 0.8), (0.2, 0.6, 0.8, 0.8), (0.2, 0.2, 0.2, 0.2)]
    out = make_study({"scratch": scratch, "med3d": med3d, "mine": [(0.1,) * 4]})
    header, rows = convergence_table(study_rows(read_results(out)))
    assert list(header) == ["Network", "Share", "Init", "Reached best of scratch", "Iterations", "Time", "Factor"]
    assert [row[3:5] + row[6:] for row in rows] == [
        ["itself", "80", "1"],
        ["2 of 3 seeds", "30", "3"],
        ["0 of 1 seeds", "-", "never reached"],
    ]


def test_without_scratch_nothing_is_said_of_convergence(make_study: MakeStudy) -> None:
    rows = study_rows(read_results(make_study({"scratch_0.001": [(0.5,)], "med3d": [(0.5,), (0.6,)]})))
    assert convergence_table(rows)[1][1][2:5] == ["med3d", "1 of 1 seeds", "20"]
    rows = study_rows(read_results(make_study({"med3d": [(0.5,), (0.6,)]})))
    only = [row for row in rows if row["seed"] == 1]
    assert convergence_table([*only, {**only[0], "init": "x", "factor_to_scratch": None}])[1][0][3:] == ["-"] * 4


def test_comparisons_name_the_smallest_possible_p(make_study: MakeStudy) -> None:
    out = make_study({"scratch": [(0.5,), (0.5,), (0.5,)], "med3d": [(0.6,), (0.7,), (0.8,)], "x": [(0.9,)]})
    rows = comparison_table(compare_inits(read_results(out)))[1]
    first, last = rows[0], rows[2]
    assert first[:6] == ["R10", "100 %", "med3d - scratch", "3", "+0.200 (-0.048 to +0.448)", "0.25 (0.25)"]
    assert first[6:] == ["3", "+0.200 (+0.200 to +0.200)", "0.25", "no difference shown"]
    assert last[2:6] == ["x - med3d", "1", "+0.300 (-)", "1 (1)"]


def test_inits_without_a_common_seed_are_not_compared(make_study: MakeStudy) -> None:
    results = read_results(make_study({"scratch": [(0.5,), (0.6,)], "med3d": [(0.5,), (0.6,)]}))
    apart = [result for result in results if (result.facts["init"] == "scratch") == (result.facts["seed"] == 0)]
    row = comparison_table(compare_inits(apart))[1][0]
    assert row[3:] == ["0", "-", "- (1)", "0", "-", "-", "too few to tell"]
