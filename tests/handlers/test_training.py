from __future__ import annotations

from pathlib import Path

from tests.handlers.conftest import Train, rows


def test_the_table_has_a_row_per_epoch_and_domains_before_classes(train: Train, tmp_path: Path) -> None:
    train([0.2, None, 0.4])
    table = rows(tmp_path / "eval" / "metrics.csv")
    assert list(table[0]) == ["epoch", "train_loss", "val_mean_dice", "liver", "liver/tumour"]
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert [row["val_mean_dice"] for row in table] == ["0.2", "", "0.4"]
    assert table[0]["train_loss"] == "1.5"
    assert table[0]["liver/tumour"] == ""


def test_curves_split_and_tensorboard_lie_beside_the_table(train: Train, tmp_path: Path) -> None:
    train([0.2])
    names = {path.name for path in (tmp_path / "eval").iterdir()}
    assert names == {"metrics.csv", "curves.png", "split.json", "tensorboard"}


def test_a_resumed_table_goes_on_where_the_checkpoint_was(train: Train, tmp_path: Path) -> None:
    train([0.2, 0.3])
    # A kill between the table and the checkpoint leaves a row of an epoch that is trained again.
    with (tmp_path / "eval" / "metrics.csv").open("a") as file:
        file.write("3,9.0,0.9,0.9,\n")
    train([0.2, 0.3, 0.4], resume=True)
    table = rows(tmp_path / "eval" / "metrics.csv")
    assert [row["val_mean_dice"] for row in table] == ["0.2", "0.3", "0.4"]


def test_a_fresh_run_moves_an_earlier_report_aside(train: Train, tmp_path: Path) -> None:
    train([0.2])
    train([0.3])
    assert rows(tmp_path / "eval" / "previous" / "1" / "metrics.csv")[0]["val_mean_dice"] == "0.2"
    assert rows(tmp_path / "eval" / "metrics.csv")[0]["val_mean_dice"] == "0.3"
