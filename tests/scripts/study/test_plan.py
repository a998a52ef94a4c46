from __future__ import annotations

from pathlib import Path

import pytest

from scripts.study.cells import Cell
from scripts.study.plan import Data, plan_ablation, plan_transfer
from tests.conftest import ROOT, MakeDomain

LUNGS, PRETRAINING = ROOT / "bundles" / "lung_segmentation", ROOT / "bundles" / "med3d_pretraining"


@pytest.fixture
def data(tmp_path: Path, make_domain: MakeDomain) -> Data:
    """Return a study's data with 10 training cases, 5 iterations an epoch."""
    return Data(LUNGS, make_domain(tmp_path / "lungs", cases=11), epochs=4, val_interval=2, options={"batch_size": 2})


def by_name(cells: list[Cell]) -> dict[str, Cell]:
    return {cell.name: cell for cell in cells}


def test_every_combination_is_a_cell_and_seeds_come_one_after_the_other(data: Data, tmp_path: Path) -> None:
    (tmp_path / "r10.pt").touch()
    inits = f"scratch,med3d={tmp_path}/r{{depth}}.pt,medicalnet"
    cells = plan_transfer(data, inits, depths=(10, 18), seeds=(3, 4), shares=(0.2, 1))
    assert len(cells) == len(by_name(cells)) == 2 * 2 * (4 + 3)
    assert [cell.options["seed"] for cell in cells] == [3] * 14 + [4] * 14
    assert [cell.facts["share"] for cell in cells[:14]] == [1] * 7 + [0.2] * 7
    assert "R18_med3d_share1_seed3" not in by_name(cells)
    assert by_name(cells)["R10_med3d_share1_seed3"].options["pretrained_weights"] == str(tmp_path / "r10.pt")


def test_rates_are_those_of_the_paper_and_cells_of_a_seed_differ_in_nothing_else(data: Data) -> None:
    cells = by_name(plan_transfer(data, "scratch,medicalnet", depths=(10,), seeds=(0,), shares=(1,)))
    scratch, low, medicalnet = (
        dict(cells[f"R10_{init}_share1_seed0"].options) for init in ("scratch", "scratch_0.001", "medicalnet")
    )
    rates = [options.pop("learning_rate") for options in (scratch, low, medicalnet)]
    assert rates == [0.01, 0.001, 0.001]
    assert [options.pop("pretrained_weights") for options in (scratch, low, medicalnet)] == [
        "none",
        "none",
        "medicalnet",
    ]
    assert scratch == low == medicalnet
    assert scratch["split_seed"] == 0


def test_a_share_gets_more_epochs_and_as_many_iterations_and_validations(data: Data) -> None:
    cells = by_name(plan_transfer(data, "scratch", depths=(10,), seeds=(0,), shares=(0.2,)))
    small = cells["R10_scratch_share0.2_seed0"]
    assert (small.options["epochs"], small.options["val_interval"]) == (20, 10)
    assert (small.facts["training_cases"], small.facts["validation_cases"], small.facts["iterations"]) == (2, 1, 20)
    assert small.facts["metric"] == "val_mean_dice"


def test_genesis_brings_its_architecture(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "g.pt").touch()
    seen: list[dict[str, object]] = []
    facts = data.read()
    monkeypatch.setattr(Data, "read", lambda self, **options: seen.append(options) or facts)
    cells = plan_transfer(data, f"scratch,genesis:{tmp_path / 'g.pt'}", depths=(10,), seeds=(0,), shares=(1,))
    assert [cell.name for cell in cells] == [
        f"U-Net_{init}_share1_seed0" for init in ("scratch", "scratch_0.001", "genesis")
    ]
    for cell in cells:
        assert cell.options["architecture"] == "genesis"
        assert "depth" not in cell.options
    assert cells[2].options["pretrained_weights"] == f"genesis:{tmp_path / 'g.pt'}"
    assert seen == [{"train_share": 1, "architecture": "genesis"}]


def test_options_that_the_study_sets_and_an_end_without_validation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="options has depth, seed, which the study sets itself"):
        Data(LUNGS, tmp_path, epochs=2, options={"seed": 1, "depth": 50})
    with pytest.raises(ValueError, match="epochs must be a multiple of it"):
        Data(LUNGS, tmp_path, epochs=5, val_interval=2)


@pytest.fixture
def domains(tmp_path: Path, make_domain: MakeDomain) -> Data:
    for name, cases in zip("abc", (2, 3, 5), strict=True):
        make_domain(tmp_path / "domains" / name, cases=cases)
    return Data(PRETRAINING, tmp_path / "domains", epochs=2, options={"batch_size": 1})


def test_an_ablation_pre_trains_on_nested_domains_for_the_same_iterations(data: Data, domains: Data) -> None:
    cells = plan_ablation(data, domains, counts=(1, 2, 3), depth=10, seeds=range(4))
    assert [cell.name for cell in cells[:4]] == [
        "R10_scratch_share1_seed0",
        "R10_scratch_0.001_share1_seed0",
        "pretraining_R10_domains_1_seed0",
        "R10_domains_1_share1_seed0",
    ]
    pretrainings = [cell for cell in cells if cell.facts["role"] == "pre-training"]
    for cell in pretrainings:
        assert abs(cell.facts["iterations"] - 14) <= cell.facts["steps"] / 2
        assert cell.options["val_interval"] == cell.options["epochs"]
        assert cell.options["dataset_dir"] == str(domains.dataset_dir)
    for seed in range(4):
        one, two, three = (set(cell.options["domains"]) for cell in pretrainings if cell.options["seed"] == seed)
        assert one < two < three == {"a", "b", "c"}
    assert len({cell.options["domains"][0] for cell in pretrainings if len(cell.options["domains"]) == 1}) > 1
    target = by_name(cells)["R10_domains_2_share1_seed1"]
    assert target.after == "pretraining_R10_domains_2_seed1"
    assert target.facts["domains"] == by_name(cells)[target.after].options["domains"]
    assert target.options["learning_rate"] == 0.001


def test_more_domains_than_there_are_is_refused(data: Data, domains: Data) -> None:
    with pytest.raises(ValueError, match=r"counts has 8, but .*domains holds 3 domains"):
        plan_ablation(data, domains, counts=(1, 8), depth=10, seeds=(0,))
