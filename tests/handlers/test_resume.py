"""Trainings that are interrupted by real signals and go on end as those that were not."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.handlers import LrScheduleHandler
from torch import nn

from med3d_components.data import DomainBatchSampler
from med3d_components.engines import PrecisionTrainer, parameter_groups, polynomial_schedule
from med3d_components.handlers import (
    EarlyStop,
    EncoderFreezer,
    EpochSeeder,
    Interruption,
    TrainingCheckpoint,
    Validation,
)
from med3d_components.utils import check_finite

CASES, STEPS = 7, 4  # of two each, the last of one
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)]


class Encoder(nn.Sequential):
    """Draws, and has statistics."""

    settings: Mapping[str, Any] = MappingProxyType({"depth": 1})

    def __init__(self) -> None:
        super().__init__(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Dropout(0.5))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Conv3d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))  # type: ignore[no-any-return]


class Scans(Dataset):
    """Augments by the seed of the draw, as ScanDataset does."""

    def __getitem__(self, index: Any) -> dict[str, torch.Tensor]:
        case, seed = index
        image = torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(seed)) + case
        return {"image": image, "label": image.sin()}


def score(output: Mapping[str, torch.Tensor]) -> float:
    return -float((output["pred"] - output["label"]).square().mean())


def train(
    folder: Path,
    epochs: int = 3,
    stop: int = 0,
    by: int = signal.SIGTERM,
    while_validating: int = 0,
    resume: bool = False,
    workers: int = 0,
    accumulation: int = 1,
    batch_size: int = 2,
    rate: float = 0.1,
    freeze: int = 0,
    val_interval: int = 1,
    patience: int = 0,
    output: Callable[[Any], Any] = score,
    watch: Callable[[PrecisionTrainer], None] = lambda trainer: None,
    **arguments: Any,
) -> PrecisionTrainer:
    """Train; the signal comes in step ``stop``, or in the validation of epoch ``while_validating``."""
    torch.manual_seed(0)
    network = Network()
    data = Scans([{"domain": "x"}] * CASES)
    sampler = DomainBatchSampler(data, batch_size)
    optimizer = torch.optim.Adam(parameter_groups(network, rate, 2))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: polynomial_schedule(epoch, epochs))
    held = [{"image": torch.full((1, 1, 4, 4, 4), 0.5), "label": torch.full((1, 1, 4, 4, 4), 0.3)}] * 2
    evaluator = SupervisedEvaluator(
        "cpu", held, network, key_val_metric={"score": Average(output_transform=output)}, decollate=False
    )
    options = {"learning_rate": rate, "epochs": epochs, "batch_size": batch_size, "seed": 0, "num_workers": workers}
    options |= {"patience": patience, "keep": arguments.get("keep", "best"), **arguments.pop("options", {})}
    trainer = PrecisionTrainer(
        "float32",
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(data, batch_sampler=sampler, num_workers=workers),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        accumulation_steps=accumulation,
        optim_set_to_none=True,
        decollate=False,
        train_handlers=[
            EpochSeeder(sampler, network),
            EncoderFreezer(network, freeze),
            LrScheduleHandler(schedule, print_lr=False),
            Validation(val_interval, evaluator),
            TrainingCheckpoint(
                folder / "models", folder, network, optimizer, schedule, evaluator,
                {"bundle": "tiny", "trained_on": ["x"]}, resume, options, **arguments,
            ),
            EarlyStop(evaluator, patience),
            Interruption(evaluator),
        ],
    )  # fmt: skip

    def send() -> None:
        if stop and trainer.state.iteration == stop:
            signal.raise_signal(by)

    def send_validating() -> None:
        if while_validating and trainer.state.epoch == while_validating:
            signal.raise_signal(by)

    trainer.add_event_handler(IterationEvents.FORWARD_COMPLETED, send)
    evaluator.add_event_handler(Events.ITERATION_STARTED, send_validating)
    watch(trainer)
    trainer.run()
    return trainer


def interrupted(code: int, folder: Path, **arguments: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        train(folder, **arguments)
    assert ended.value.code == code


def read(folder: Path, name: str = "last") -> dict[str, Any]:
    place = "models" if name == "model" else "checkpoints"
    content: dict[str, Any] = torch.load(folder / place / f"{name}.pt", weights_only=True)
    return content


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def assert_equal_runs(one: Path, two: Path) -> None:
    last, other = read(one), read(two)
    for content in (last, other):
        del content["options"]["num_workers"]
    assert same(last, other)
    assert same(read(one, "model"), read(two, "model"))
    assert same(read(one, "encoder"), read(two, "encoder"))


@pytest.mark.parametrize(("accumulation", "stops"), [(1, {2: 2, 4: 4, 5: 5, 8: 8, 12: 12}), (3, {2: 3, 4: 4, 6: 7})])
def test_a_training_that_is_interrupted_at_any_step_goes_on_bit_equal(
    tmp_path: Path, accumulation: int, stops: dict[int, int]
) -> None:
    train(tmp_path / "whole", accumulation=accumulation)
    for stop, moved in stops.items():  # at the end of a group of steps whose gradients are added up
        folder = tmp_path / str(stop)
        interrupted(143, folder, stop=stop, accumulation=accumulation)
        last = read(folder)
        assert last["epoch"] * STEPS + last["step"] == moved
        assert len(last["losses"]) == last["step"]
        trainer = train(folder, resume=True, accumulation=accumulation)
        assert trainer.state.iteration == 3 * STEPS
        assert_equal_runs(folder, tmp_path / "whole")


def test_workers_prepare_the_same_steps_after_a_resume(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    for stop in (3, 4, 6):
        interrupted(143, tmp_path / str(stop), stop=stop, workers=2)
        train(tmp_path / str(stop), resume=True, workers=2)
        assert_equal_runs(tmp_path / str(stop), tmp_path / "whole")


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_training_that_is_interrupted_while_validating_validates_again(tmp_path: Path, epoch: int) -> None:
    train(tmp_path / "whole")
    interrupted(130, tmp_path / "cut", while_validating=epoch, by=signal.SIGINT)
    assert (read(tmp_path / "cut")["epoch"], read(tmp_path / "cut")["step"]) == (epoch - 1, STEPS)
    train(tmp_path / "cut", resume=True)
    assert_equal_runs(tmp_path / "cut", tmp_path / "whole")


def test_a_signal_after_the_last_step_of_an_epoch_does_not_wait_for_its_validation(tmp_path: Path) -> None:
    def send(trainer: PrecisionTrainer) -> None:
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=STEPS), lambda: signal.raise_signal(signal.SIGTERM))

    train(tmp_path / "whole")
    interrupted(143, tmp_path / "cut", watch=send)
    assert (read(tmp_path / "cut")["epoch"], read(tmp_path / "cut")["step"]) == (0, STEPS)
    train(tmp_path / "cut", resume=True)
    assert_equal_runs(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_with_one_line_and_its_code_and_leaves_no_handler(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    interrupted(128 + number, tmp_path, stop=2, by=number)
    assert [signal.getsignal(each) for each in SIGNALS] == before
    name = signal.Signals(number).name
    assert capsys.readouterr().err == (
        f"\ninterrupted ({name}), saved in epoch 1, after step 2 of 4; "
        "go on with: the same command with --resume true\n"
    )


def test_before_the_first_step_nothing_is_written_and_an_earlier_run_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, epochs=1)
    before = read(tmp_path)
    interrupted(143, tmp_path, stop=1)
    assert "before the first step, so nothing was written" in capsys.readouterr().err
    assert same(read(tmp_path), before)
    assert not (tmp_path / "checkpoints" / "previous").exists()


def test_a_second_ctrl_c_ends_at_once_and_leaves_what_was_saved(tmp_path: Path) -> None:
    def press(trainer: PrecisionTrainer) -> None:
        @trainer.on(IterationEvents.BACKWARD_COMPLETED)
        def again() -> None:
            if trainer.state.iteration == 6:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop=6, by=signal.SIGINT, watch=press, checkpoint_minutes=0)
    assert (read(tmp_path)["epoch"], read(tmp_path)["step"]) == (1, 0)


def test_a_forked_worker_leaves_signals_to_the_training(tmp_path: Path) -> None:
    seen: list[int] = []

    def fork(trainer: PrecisionTrainer) -> None:
        def child() -> None:
            if pid := os.fork():
                seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                return
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            os._exit(3)

        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), child)

    train(tmp_path, epochs=1, watch=fork)
    assert seen == [3]


def test_the_state_is_written_when_its_minutes_have_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, written = [0.0], []
    monkeypatch.setattr("med3d_components.handlers.checkpoint.time.monotonic", lambda: seconds[0])
    keep = TrainingCheckpoint.write

    def write(self: TrainingCheckpoint, engine: PrecisionTrainer) -> None:
        before = self.written
        keep(self, engine)
        if self.written != before:
            written.append(self.written)

    def pass_time(trainer: PrecisionTrainer) -> None:
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda: seconds.append(seconds.pop() + 60))

    monkeypatch.setattr(TrainingCheckpoint, "write", write)
    for minutes, expected in ((5, [(1, 0), (2, 1), (3, 0)]), (100, [(1, 0), (3, 0)]), (0, [(1, 0), (2, 0), (3, 0)])):
        written.clear()
        train(tmp_path, watch=pass_time, checkpoint_minutes=minutes)
        assert written == expected


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
    assert rates == pytest.approx([0.02 * polynomial_schedule(epoch, 4) for epoch in (2, 3) for _ in range(STEPS)])
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


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def scored(*by_epoch: float) -> Callable[[Any], float]:
    each = iter([value for value in by_epoch for _ in range(2)])
    return lambda output: next(each)


def die_in(step: int) -> Callable[[PrecisionTrainer], None]:
    return lambda trainer: trainer.add_event_handler(Events.ITERATION_STARTED(once=step), lambda: 1 / 0) and None


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
