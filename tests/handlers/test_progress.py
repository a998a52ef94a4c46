from __future__ import annotations

import io
import logging
import re
from contextlib import redirect_stderr

import pytest
from ignite.engine import Engine, Events

from med3d_components.handlers import ProgressBar


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


def train(epochs: int = 2, batches: int = 5, start: int = 0, fails_at: int | None = None) -> Engine:
    def step(engine: Engine, batch: int) -> list[dict[str, float]]:
        if engine.state.iteration == fails_at:
            raise ValueError("broken")
        return [{"loss": 0.5}]

    trainer, evaluator = Engine(step), Engine(lambda engine, batch: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = -1, -1

    def validate() -> None:
        evaluator.run([0, 1])
        evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.75, trainer.state.epoch

    @trainer.on(Events.STARTED)
    def resume() -> None:
        trainer.state.epoch, trainer.state.iteration = start, start * batches

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    ProgressBar("training", evaluator).attach(trainer)
    trainer.run(range(batches), max_epochs=epochs)
    return trainer


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def test_one_bar_counts_all_steps_with_loss_best_score_and_what_it_does(terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        train()
    text = terminal.getvalue()
    assert "10/10" in text
    assert re.search(r"loss=0\.5000", text)
    assert re.search(r"best=0\.7500", text)
    assert "training: validating 2/2" in text
    assert text.count("\n") == 1


def test_a_training_with_nothing_left_to_do_shows_no_bar(terminal: Terminal) -> None:
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.STARTED, lambda: trainer.terminate(skip_completed=True))
    with redirect_stderr(terminal):
        ProgressBar("training", Engine(lambda engine, batch: None)).attach(trainer)
        trainer.run(range(5), max_epochs=2)
    assert terminal.getvalue() == ""


def test_a_resumed_training_goes_on_where_it_was(terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        train(epochs=3, start=2)
    assert "10/15" in terminal.getvalue()
    assert " 0/15" not in terminal.getvalue()


def test_in_a_log_there_is_no_bar_but_one_estimate(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train()
    assert capsys.readouterr().err == ""
    (line,) = (record.message for record in caplog.records if record.name.startswith("med3d_components"))
    assert re.fullmatch(r"\S+ s a step: about 0 s for the 7 left, and the validations\.", line)


def test_an_error_ends_the_bar_and_goes_on(terminal: Terminal) -> None:
    with redirect_stderr(terminal), pytest.raises(ValueError, match="broken"):
        train(fails_at=3)
    assert terminal.getvalue().endswith("\n")


def test_lines_of_the_log_do_not_break_the_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    with redirect_stderr(terminal):
        console = logging.StreamHandler()
    monkeypatch.setattr(root, "handlers", [console])
    monkeypatch.setattr(root, "level", logging.INFO)
    engine = Engine(lambda engine, batch: logging.getLogger("x").info("a line"))
    ProgressBar("inference").attach(engine)
    with redirect_stderr(terminal):
        engine.run([0, 1])
    assert "\na line\n" in terminal.getvalue().replace("\r", "\n")
    assert root.handlers == [console]
