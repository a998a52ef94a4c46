from __future__ import annotations

from pathlib import Path

from matplotlib.image import imread

from med3d_components.visualize import draw_curves


def test_curves_are_drawn_for_epochs_with_and_without_validation(tmp_path: Path) -> None:
    rows = [
        {"epoch": 1, "train_loss": 1.0},
        {"epoch": 2, "train_loss": 0.5, "val_mean_dice": 0.4, "liver": 0.4, "liver/tumour": float("nan")},
    ]
    for count in (1, 2):
        draw_curves(tmp_path / "curves.png", rows[:count], "val_mean_dice")
        assert imread(tmp_path / "curves.png").shape[2] == 4
