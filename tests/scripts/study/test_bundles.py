from __future__ import annotations

from pathlib import Path

import pytest

from med3d_components.utils import write_json
from scripts.study.bundles import BundleFacts, equal_budget, is_synthetic, read_bundle, sha256
from tests.conftest import ROOT, MakeDomain

BUNDLES = ROOT / "bundles"


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10])
@pytest.mark.parametrize(("epochs", "interval"), [(20, 1), (20, 2), (6, 3), (1, 1)])
def test_iterations_are_equal_to_within_half_the_distance_of_two_validations(
    steps: int, epochs: int, interval: int
) -> None:
    more, spread = equal_budget(epochs, interval, 10, steps)
    assert more % spread == 0
    assert abs(more * steps - epochs * 10) <= spread * steps / 2
    assert equal_budget(epochs, interval, 10, 10) == (epochs, interval)


def test_the_facts_of_a_bundle_come_from_its_config_and_options(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "lungs", cases=10)
    options = {"dataset_dir": str(folder), "batch_size": 4, "train_share": 0.5, "val_fraction": 0.2}
    facts = read_bundle(BUNDLES / "lung_segmentation", options)
    expected = BundleFacts("val_mean_dice", ["background", "class 1"], {"": 4}, validation=2, batch_size=4)
    assert facts == expected
    assert facts.steps() == 1
    with pytest.raises(ValueError, match=r"--batch is no id of .*; did you mean --batch_size"):
        read_bundle(BUNDLES / "lung_segmentation", {"batch": 4})


def test_a_batch_of_the_pre_training_holds_one_domain(tmp_path: Path, make_domain: MakeDomain) -> None:
    for name, cases in (("a", 3), ("b", 6)):
        make_domain(tmp_path / name, cases=cases)
    facts = read_bundle(BUNDLES / "med3d_pretraining", {"dataset_dir": str(tmp_path), "batch_size": 2})
    assert facts.training == {"a": 2, "b": 5}
    assert (facts.steps(), facts.steps("a"), facts.steps("b")) == (4, 1, 3)


def test_data_that_say_so_are_synthetic(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "dataset.json", {"synthetic": {"seed": 0}})
    write_json(tmp_path / "b" / "dataset.json", {})
    assert is_synthetic(tmp_path)
    assert is_synthetic(tmp_path / "a")
    assert not is_synthetic(tmp_path / "b")
    assert sha256(tmp_path) is None
