"""Trainings that are interrupted by real signals and go on end as those that were not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ignite.engine import Events
from monai.engines.utils import IterationEvents

from med3d_components.engines import PrecisionTrainer
from med3d_components.handlers import (
    TrainingCheckpoint,
)
from tests.handlers.tiny_training import (
    SIGNALS,
    STEPS,
    assert_equal_runs,
    interrupted,
    read,
    same,
    train,
)


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
