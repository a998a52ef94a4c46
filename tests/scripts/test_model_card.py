from __future__ import annotations

from typing import Any

import pytest

from scripts.commands.anonymous import anonymous_record
from scripts.commands.model_card import model_card, with_card
from tests.conftest import BUNDLES
from tests.records.samples import sample_record

SETTINGS = {"trained_on": ["Kidneys"], "classes": ["background", "kidney"]}
METADATA = {"description": "A network.", "intended_use": "Research: to segment kidneys."}


def card(**changes: Any) -> str:
    return model_card(SETTINGS, METADATA, anonymous_record(sample_record(**changes)))


def test_a_card_tells_what_the_weights_are() -> None:
    text = card()
    for words in (
        "| Kidneys | CC0 1.0 |",
        "4 cases trained, 1 validated.",
        "| `--depth` | 10 |",
        "| `--patch_size` | 32,32,32 |",
        "val_mean_dice 0.7500 on 1 validation case, in epoch 2.",
        "| kidney | 0.7500 |",
        "It started from random weights.",
        "Research: to segment kidneys. Not for clinical use.",
        "| Seed | 0 |",
    ):
        assert words in text
    assert "dataset_dir" not in text


def test_a_card_tells_of_the_trainings_before() -> None:
    weights = {
        "option": "pretrained_weights",
        "source": "medicalnet",
        "sha256": "3" * 64,
        "licence": "MIT",
        "training_sets": ["Task09_Spleen"],
        "record": None,
    }
    own = {**weights, "source": "/home/alice/encoder.pt", "licence": None, "training_sets": ["Livers"]}
    text = card(weights=[{**own, "record": sample_record(weights=[weights])}])
    assert "* \\<pretrained_weights\\>, trained on Livers, by lung_segmentation, 4 cases, licence not stated" in text
    assert "  * medicalnet, trained on Task09_Spleen, licence MIT, sha256 333333333333" in text
    assert "| Licence of data and weights | CC0 1.0; MIT |" in text


def test_what_is_not_known_is_called_unknown() -> None:
    text = model_card(SETTINGS, METADATA, None)
    assert "Kidneys; licence and number of cases are unknown: the training left no run.json." in text
    assert "The score is unknown" in text
    unscored = card(best={"metric": "val_mean_dice", "score": None, "epoch": 0}, scores=[])
    assert "These are the weights of epoch 2, the last, which has no score." in unscored
    assert "was chosen" not in unscored


def test_weights_that_were_kept_as_the_last_have_the_last_score() -> None:
    options = {**sample_record()["options"], "keep": "last"}
    best = {"metric": "val_mean_dice", "score": 0.5, "epoch": 1}
    data = {**sample_record()["data"], "validation": 2}
    text = card(options=options, best=best, data=data)
    assert "val_mean_dice 0.7500 on 2 validation cases, in epoch 2, the last." in text
    assert "| kidney | 0.7500 |" in text
    assert "was chosen" not in text
    assert "was chosen" in card(options={**options, "keep": "best"}, best=best)
    # The end of a training need not be validated.
    unscored = card(options=options, best=best, scores=sample_record()["scores"][:1])
    assert "These are the weights of epoch 2, the last, which has no score." in unscored


def test_texts_from_outside_are_no_markdown() -> None:
    data = {**sample_record()["data"], "sets": [{"name": "a|b\n# c <b>", "licence": None, "dataset_json": None}]}
    assert "| a\\|b # c \\<b\\> | not stated |" in card(data=data)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_every_bundle_has_a_place_for_the_card(bundle: Any) -> None:
    readme = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    text = with_card(readme, "## Model card")
    assert "without weights" not in text
    assert "<!-- options: train.json -->" in text
    with pytest.raises(ValueError, match="A README has no <!-- model card -->"):
        with_card(text, "")
