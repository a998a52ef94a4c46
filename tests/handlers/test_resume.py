"""What a training that goes on takes, refuses and leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from med3d_components.engines import PrecisionTrainer
from med3d_components.handlers import (
    EncoderFreezer,
    TrainingCheckpoint,
)
from med3d_components.rates import rate_share
from med3d_components.utils import check_finite
from tests.handlers.tiny_training import (
    CASES,
    STEPS,
    Network,
    assert_equal_runs,
    die_in,
    files,
    interrupted,
    read,
    same,
    scored,
    train,
)


def test_a_changed_rate_is_taken_and_said_and_a_finished_run_learns_in_its_next_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, epochs=2)
    model = read(tmp_path)["network"]
    caplog.set_level("INFO")
    rates: list[float] = []

    def note(trainer: PrecisionTrainer) -> None:
        trainer.add_event_handler(
            Events.ITERATION_STARTED, lambda: rates.append(trainer.optimizer.param_groups[1]["lr"])
        )

    train(tmp_path, epochs=4, rate=0.01, resume=True, watch=note, workers=0, options={"device": "cpu"})
    assert rates == pytest.approx(
        [0.02 * rate_share(step, STEPS, 4, "polynomial") for step in range(2 * STEPS, 4 * STEPS)]
    )
    assert not torch.equal(read(tmp_path)["network"]["head.weight"], model["head.weight"])
    assert "learning_rate was 0.1 and is now 0.01: taken from epoch 3 on." in caplog.messages
    assert "epochs was 2 and is now 4: taken from epoch 3 on." in caplog.messages
    assert not any("device" in message for message in caplog.messages)


def test_all_changes_that_a_resume_refuses_are_in_one_line(tmp_path: Path) -> None:
    train(tmp_path, epochs=1, options={"depth": 10, "spacing": [1, 1, 1]})
    before = read(tmp_path)
    with pytest.raises(ValueError, match=r"depth was 10 and is now 18; spacing was \[1, 1, 1\] and is now \[2, 1, 1\]"):
        train(tmp_path, epochs=2, resume=True, options={"depth": 18, "spacing": [2, 1, 1]})
    assert same(read(tmp_path), before)


def test_a_checkpoint_of_a_version_without_options_and_steps_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path / "whole")
    train(tmp_path / "old", epochs=1)
    content = read(tmp_path / "old")
    for name in ("options", "step", "steps", "losses"):
        del content[name]
    torch.save(content, tmp_path / "old" / "checkpoints" / "last.pt")
    caplog.set_level("INFO")
    train(tmp_path / "old", resume=True)
    assert any("does not tell the options of its run" in message for message in caplog.messages)
    assert read(tmp_path / "old")["epoch"] == 3


def test_an_epoch_of_another_length_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(143, tmp_path, stop=STEPS + 2)
    caplog.set_level("INFO")
    assert train(tmp_path, resume=True, batch_size=1).state.iteration == 3 * CASES
    said = (
        "An epoch had 4 steps and has 7 now: epoch 2, of which 2 were made, begins anew with the weights as they are."
    )
    assert said in caplog.messages


def test_nothing_left_to_do_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, epochs=1)
    before = read(tmp_path)
    caplog.set_level("INFO")
    train(tmp_path, epochs=1, resume=True)
    assert "Nothing is left to do: the run has ended after epoch 1; give it more by --epochs." in caplog.messages
    assert same(read(tmp_path), before)


def test_a_run_that_ended_for_lack_of_patience_makes_no_further_epoch_when_resumed(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"epochs": 9, "patience": 1, "output": lambda output: -1.0}
    assert train(tmp_path, **arguments).state.epoch == 2
    assert train(tmp_path, **arguments, resume=True).state.epoch == 2
    assert read(tmp_path)["epoch"] == 2


def test_a_kill_after_a_better_model_was_saved_never_leaves_a_worse_one(tmp_path: Path) -> None:
    scores = iter([-3.0, -2.0, -1.0, -2.5, -2.6])  # two cases are one epoch's
    current = [0.0]

    def by_epoch(trainer: PrecisionTrainer) -> None:
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda: current.__setitem__(0, next(scores)))

    def die(trainer: PrecisionTrainer) -> None:
        by_epoch(trainer)
        trainer.add_event_handler(Events.ITERATION_STARTED(once=3 * STEPS + 1), lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        train(tmp_path, epochs=5, watch=die, output=lambda output: current[0])
    assert read(tmp_path)["epoch"] == 1  # while model.pt is that of epoch 3
    model = read(tmp_path, "model")
    scores = iter([-2.0, -1.5, -2.0, -2.0])  # another machine, which does not repeat it to the bit
    train(tmp_path, epochs=5, watch=by_epoch, output=lambda output: current[0], resume=True)
    assert same(read(tmp_path, "model"), model)
    assert read(tmp_path)["best"] == {"score": -1.0, "epoch": 3}


@pytest.mark.parametrize(
    "arguments",
    [
        {"keep": "last"},
        {"keep": "last", "val_interval": 2},
        {"val_interval": 9},
        {"output": lambda output: math.nan},
        {"epochs": 8, "patience": 1, "keep": "last", "output": lambda output: -1.0},
    ],
)
def test_a_training_leaves_the_last_network_where_none_is_the_best(tmp_path: Path, arguments: dict[str, Any]) -> None:
    train(tmp_path, **arguments)
    assert same(read(tmp_path, "model"), read(tmp_path)["network"])
    (tmp_path / "models" / "model.pt").unlink()
    train(tmp_path, **arguments, resume=True)
    assert same(read(tmp_path, "model"), read(tmp_path)["network"])


def test_keeping_the_last_is_what_other_handlers_can_read(tmp_path: Path) -> None:
    def evaluator(trainer: PrecisionTrainer, keep: str) -> bool:
        *_, checkpoint = (
            each[0].__self__
            for each in trainer._event_handlers[Events.COMPLETED]
            if isinstance(getattr(each[0], "__self__", None), TrainingCheckpoint)
        )
        return bool(checkpoint.evaluator.state.keep_last) == (keep == "last")

    for keep in ("best", "last"):
        assert evaluator(train(tmp_path, epochs=1, keep=keep), keep)


def test_the_encoder_does_not_learn_before_its_epoch_and_a_resume_needs_nothing_for_that(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = Network().state_dict()
    states: dict[int, dict[str, torch.Tensor]] = {}

    def note(trainer: PrecisionTrainer) -> None:
        @trainer.on(Events.EPOCH_COMPLETED)
        def keep() -> None:
            states[trainer.state.epoch] = {k: x.clone() for k, x in trainer.network.state_dict().items()}

    train(tmp_path / "whole", freeze=2, watch=note)
    for key, value in start.items():
        assert torch.equal(states[2][key], value) == key.startswith("encoder."), key
    assert not torch.equal(states[3]["encoder.0.weight"], states[2]["encoder.0.weight"])
    assert not torch.equal(states[3]["encoder.1.running_mean"], states[2]["encoder.1.running_mean"])
    interrupted(143, tmp_path / "cut", freeze=2, stop=6)
    train(tmp_path / "cut", freeze=2, resume=True)
    assert_equal_runs(tmp_path / "cut", tmp_path / "whole")


def test_what_was_frozen_by_stages_stays_so_when_the_encoder_is_released() -> None:
    network = Network()
    network.encoder[0].requires_grad_(False)
    freezer = EncoderFreezer(network, 1)
    for epoch, learns in ((1, False), (2, True)):
        trainer = type("Trainer", (), {"state": type("State", (), {"epoch": epoch})})
        freezer.start_epoch(trainer)  # type: ignore[arg-type]
        assert not network.encoder[0].weight.requires_grad
        assert network.encoder[1].weight.requires_grad == learns


def test_a_state_of_the_optimiser_that_is_not_finite_leaves_the_last_good_files(tmp_path: Path) -> None:
    def spoil(trainer: PrecisionTrainer) -> None:
        @trainer.on(Events.ITERATION_COMPLETED(once=2 * STEPS))
        def overflow() -> None:
            trainer.optimizer.state[trainer.network.head.weight]["exp_avg_sq"].fill_(math.inf)

    with pytest.raises(
        ValueError, match=r"the optimiser's exp_avg_sq .*last\.pt \(after epoch 1\); --resume true goes"
    ):
        train(tmp_path, watch=spoil, checkpoint_minutes=0)
    assert read(tmp_path)["epoch"] == 1
    train(tmp_path, resume=True)


def test_the_split_stands_beside_the_model_and_in_its_encoder(tmp_path: Path) -> None:
    split = {"trained_on": ["x"], "training": {"Smith": "1"}, "validation": {"Jones": "2"}, "ancestors": {}}
    train(tmp_path, epochs=1, split=split)
    assert json.loads((tmp_path / "models" / "split.json").read_text(encoding="utf-8")) == split
    # The encoder is given away, so names of cases stay at home.
    assert read(tmp_path, "encoder")["split"] == {**split, "training": {"1": "1"}, "validation": {"2": "2"}}
    train(tmp_path, epochs=1, split=split)
    assert (tmp_path / "checkpoints" / "previous" / "1" / "split.json").is_file()


@pytest.mark.parametrize("epochs", [2, 1])
def test_a_run_that_has_its_epochs_changes_no_file_and_takes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, epochs: int
) -> None:
    scores = iter([-1.0, -1.0, -2.0, -2.0])  # two cases are one epoch's
    train(tmp_path, epochs=2, output=lambda output: next(scores))
    before = files(tmp_path)
    caplog.set_level("INFO")
    ended: list[int] = []

    def note(trainer: PrecisionTrainer) -> None:
        trainer.add_event_handler(Events.COMPLETED, lambda: ended.append(1))

    train(tmp_path, epochs=epochs, keep="last", rate=0.2, resume=True, watch=note)
    assert files(tmp_path) == before
    names = {"learning_rate", "keep"} | ({"epochs"} if epochs == 1 else set())
    (line,) = (each for each in caplog.messages if each.startswith("Not taken, since no epoch follows: "))
    assert set(line.partition(": ")[2].rstrip(".").split(", ")) == names
    assert not any("taken from epoch" in message for message in caplog.messages)
    assert not ended  # what follows a training, as its record and its summary, does not


def test_a_run_that_ended_for_lack_of_patience_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: dict[str, Any] = {"epochs": 9, "patience": 1, "output": lambda output: -1.0}
    train(tmp_path, **arguments)
    before = files(tmp_path)
    caplog.set_level("INFO")
    train(tmp_path, **arguments, keep="last", resume=True)
    assert files(tmp_path) == before
    assert "Not taken, since no epoch follows: keep." in caplog.messages


def test_the_last_network_is_not_taken_for_the_best_after_a_kill(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, epochs=2, output=scored(-1.0, -1.5))
    with pytest.raises(ZeroDivisionError):  # before last.pt is written again
        train(tmp_path, epochs=5, keep="last", output=scored(-3.0), watch=die_in(3 * STEPS + 1), resume=True)
    assert read(tmp_path, "encoder")["kept"] == {"epoch": 3, "score": -3.0}
    assert (read(tmp_path)["epoch"], read(tmp_path)["options"]["keep"]) == (2, "last")
    caplog.set_level("INFO")
    train(tmp_path, epochs=4, output=scored(-2.0, -2.5), resume=True)
    assert any("is the network of epoch 3, not the best, that of epoch 1" in message for message in caplog.messages)
    assert read(tmp_path)["best"] == read(tmp_path, "encoder")["kept"] == {"score": -2.0, "epoch": 3}


def test_what_a_resume_takes_is_kept_before_a_step_follows(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    before = read(tmp_path)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, epochs=2, rate=0.2, watch=die_in(STEPS + 1), resume=True)
    after = read(tmp_path)
    assert (after["options"]["learning_rate"], after["options"]["epochs"]) == (0.2, 2)
    assert same({**after, "options": before["options"]}, before)


def test_a_config_that_was_changed_beyond_its_options_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, epochs=1, config={"loss": "0a", "optimizer": "0b", "sampler": "0c"})
    caplog.set_level("INFO")
    train(tmp_path, epochs=2, config={"loss": "0a", "optimizer": "0d", "sampler": "0e"}, resume=True)
    line = "The config has changed beyond its options, in optimizer, sampler: taken from epoch 2 on."
    assert line in caplog.messages
    assert read(tmp_path)["config"]["optimizer"] == "0d"


def test_a_change_is_taken_from_the_epoch_that_has_steps_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(143, tmp_path, while_validating=2)
    caplog.set_level("INFO")
    train(tmp_path, rate=0.2, resume=True)
    assert "learning_rate was 0.1 and is now 0.2: taken from epoch 3 on." in caplog.messages


def test_steps_are_counted_on_when_epochs_have_another_length(tmp_path: Path) -> None:
    interrupted(143, tmp_path, stop=STEPS + 2)
    trainer = train(tmp_path, resume=True, batch_size=1)
    # Those of an epoch that begins anew were made, too.
    assert trainer.state.iteration + trainer.state.steps_beyond == STEPS + 2 + 2 * CASES
    assert read(tmp_path)["made"] == STEPS + 2 + 2 * CASES
    train(tmp_path, epochs=4, resume=True)
    assert read(tmp_path)["made"] == STEPS + 2 + 2 * CASES + STEPS


def test_a_run_whose_last_epochs_were_not_validated_had_not_ended_for_lack_of_patience(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"epochs": 8, "patience": 2, "val_interval": 4}
    interrupted(143, tmp_path, **arguments, stop=7 * STEPS, output=scored(-1.0))
    assert train(tmp_path, **arguments, resume=True, output=scored(-2.0)).state.epoch == 8
    interrupted(143, tmp_path / "b", **arguments, while_validating=8, output=scored(-1.0, -1.0))
    assert read(tmp_path / "b")["validated"] == 4


def test_a_network_that_gives_no_numbers_to_a_validation_ends_the_training_with_what_to_do(tmp_path: Path) -> None:
    outputs = iter([0.0, 0.0, math.nan])

    def check(output: Any) -> float:
        value = next(outputs)
        check_finite("The prediction of case_1", value)
        return value

    said = (
        "The prediction of case_1 is NaN or infinite in the validation of epoch 2; try a smaller --learning_rate, or "
        r"look at this case\. The last good checkpoint is .*last\.pt \(after epoch 1\); --resume true goes on"
    )
    with pytest.raises(ValueError, match=said):
        train(tmp_path, output=check)


def test_a_resume_without_a_checkpoint_says_that_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError, match="there is nothing to resume"):
        train(tmp_path, resume=True, split={"training": {}, "validation": {}})
    assert "split.json" not in caplog.text


def test_a_resume_without_a_split_says_that_it_was_drawn_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, epochs=1)
    train(tmp_path, epochs=2, resume=True, split={"training": {}, "validation": {}})
    assert "drawn by their names again" in caplog.text
    assert (tmp_path / "models" / "split.json").is_file()


def test_a_run_that_kept_its_last_network_keeps_the_best_from_where_it_is_resumed_so(tmp_path: Path) -> None:
    train(tmp_path, epochs=2, keep="last", output=lambda output: -1.0)
    train(tmp_path, epochs=3, resume=True, output=lambda output: -2.0)
    assert read(tmp_path)["best"] == {"score": -2.0, "epoch": 3}
    assert same(read(tmp_path, "model"), read(tmp_path)["network"])
