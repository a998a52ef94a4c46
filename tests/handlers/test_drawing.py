from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.image import imread
from scipy.integrate import trapezoid

from med3d_components.handlers.drawing import draw_cubes, draw_curves, draw_overlays, draw_roc
from med3d_components.masks import class_color


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the figures that are saved."""
    saved: list[Any] = []
    original = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *args, **kwargs: (saved.append(figure), original(figure, *args, **kwargs)),
    )
    return saved


def make_cases(probabilities: list[float]) -> list[dict[str, Any]]:
    image = np.random.default_rng(0).normal(size=(8, 9, 10))
    return [
        {"case": f"case {i}", "image": image, "label": ("benign", "malignant")[i % 2], "probability": probability}
        for i, probability in enumerate(probabilities)
    ]


def frame(axes: Any) -> str:
    return {(0.839, 0.153, 0.157): "red", (0.173, 0.627, 0.173): "green"}[
        tuple(round(value, 3) for value in axes.spines["top"].get_edgecolor()[:3])
    ]


def test_the_most_wrong_comes_first_and_frames_tell_right_from_wrong(tmp_path: Path, figures: list[Any]) -> None:
    draw_cubes(tmp_path / "cubes.png", make_cases([0.2, 0.9, 0.5, 0.5, 0.95]))
    drawn = [axes for axes in figures[0].axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [
        "case 4\nbenign, 0.95",
        "case 2\nbenign, 0.50",
        "case 3\nmalignant, 0.50",
        "case 0\nbenign, 0.20",
        "case 1\nmalignant, 0.90",
    ]
    assert [frame(axes) for axes in drawn] == ["red", "red", "green", "green", "green"]
    assert figures[0].get_suptitle() == "5 of 5 cases, most wrong first; right: 3, wrong: 2"
    assert imread(tmp_path / "cubes.png").shape[2] == 4


def test_of_many_cases_the_forty_most_wrong_are_drawn(tmp_path: Path, figures: list[Any]) -> None:
    cases = make_cases(np.linspace(0, 1, 45).tolist())
    draw_cubes(tmp_path / "cubes.png", cases)
    assert sum(bool(axes.images) for axes in figures[0].axes) == 40
    assert figures[0].get_suptitle().startswith("40 of 45 cases")
    cases[0]["title"] = "a title"
    draw_cubes(tmp_path / "cubes.png", cases[:1])
    assert figures[1].axes[0].get_title().startswith("a title\n")


def test_curve_matrix_and_strip_show_the_rows(tmp_path: Path, figures: list[Any]) -> None:
    rows = make_cases([0.1, 0.9, 0.4, 0.3, 0.7, 0.8])
    draw_roc(tmp_path / "roc.png", rows, "AUC", (0.4, 1.0))
    curve, confusion, strip = figures[0].axes
    assert curve.get_title() == "AUC 0.778 (95 % interval 0.400 to 1.000)"
    points = curve.lines[1].get_xydata()
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert trapezoid(points[:, 1], points[:, 0]) == pytest.approx(7 / 9)
    assert [text.get_text() for text in confusion.texts] == ["2", "1", "1", "2"]
    assert sorted(strip.lines[0].get_xdata()) == [0.3, 0.8, 0.9]
    assert imread(tmp_path / "roc.png").shape[2] == 4


def test_tied_scores_give_a_straight_curve(tmp_path: Path, figures: list[Any]) -> None:
    draw_roc(tmp_path / "roc.png", make_cases([0.6] * 4), "AUC", (0.5, 0.5))
    assert figures[0].axes[0].lines[1].get_xydata().tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("count", [0, 1])
def test_one_class_has_no_curve_and_no_case_no_cubes(tmp_path: Path, figures: list[Any], count: int) -> None:
    rows = make_cases([0.9])[:count]
    draw_roc(tmp_path / "roc.png", rows, "AUC", (float("nan"), float("nan")))
    assert len(figures[0].axes[0].lines) == 1
    draw_cubes(tmp_path / "cubes.png", rows)
    assert sum(bool(axes.images) for axes in figures[1].axes) == count


def test_curves_are_drawn_for_epochs_with_and_without_validation(tmp_path: Path) -> None:
    rows = [
        {"epoch": 1, "train_loss": 1.0},
        {"epoch": 2, "train_loss": 0.5, "val_mean_dice": 0.4, "liver": 0.4, "liver/tumour": float("nan")},
    ]
    for count in (1, 2):
        draw_curves(tmp_path / "curves.png", rows[:count], "val_mean_dice")
        assert imread(tmp_path / "curves.png").shape[2] == 4


def draw(folder: Path, case: dict[str, Any], classes: list[str] | tuple[str, ...] = ()) -> np.ndarray:
    draw_overlays(folder / "overlays.png", [{"title": "a case", **case}], classes)
    return np.asarray(imread(folder / "overlays.png")[..., :3])


def test_label_and_prediction_are_drawn_in_colour_over_a_grey_image(tmp_path: Path) -> None:
    image, label = np.random.default_rng(0).normal(size=(16, 12, 8)), np.zeros((16, 12, 8))
    label[4:9, 3:8, 2:6] = 1
    grey, coloured = (draw(tmp_path, {"image": image, "label": label * 0, "pred": pred}) for pred in (label * 0, label))
    assert np.ptp(grey, axis=2).max() == 0
    assert np.ptp(coloured, axis=2).max() > 0.3


def test_right_is_left_anterior_up_and_superior_up(tmp_path: Path, figures: list[Any]) -> None:
    image = np.zeros((16, 12, 8))
    image[12:, 8:, 6:] = 1  # in RAS: right, anterior, superior
    pred = np.zeros_like(image)
    pred[13, 9, 7] = 1
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-30, 4, -100)
    draw(tmp_path, {"image": image, "pred": pred, "affine": affine}, ["background", "liver", "spleen"])
    axial, coronal, sagittal = figures[0].axes
    for axes, shape in ((axial, (12, 16)), (coronal, (8, 16)), (sagittal, (8, 12))):
        picture = np.asarray(axes.images[0].get_array())
        assert picture.shape == shape
        rows, columns = np.nonzero(picture)
        assert (rows.min(), columns.min()) == (0, 0)
        assert (rows.max() < shape[0] / 2, columns.max() < shape[1] / 2) == (True, True)
    assert [[text.get_text() for text in axes.texts] for axes in figures[0].axes] == [
        list("RLAP"),
        list("RLSI"),
        list("APSI"),
    ]
    assert [axes.get_title() for axes in figures[0].axes] == [
        "axial, I 79.0 mm",
        "coronal, A 22.0 mm",
        "sagittal, L 4.0 mm",
    ]
    assert [axes.get_aspect() for axes in figures[0].axes] == [1, 1.5, 1.5]
    assert legend(figures[0]) == ["liver", "spleen, none"]


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.subfigs[0].legends[0].get_texts()]


def test_the_legend_gives_the_dice_of_each_class_and_tells_label_from_prediction(
    tmp_path: Path, figures: list[Any]
) -> None:
    label = np.zeros((8, 8, 8))
    label[2:4, 2:6, 2:6] = 1
    label[4:6, 2:6, 2:6] = 3
    pred = np.roll(label, 1, axis=0) * (label != 3)
    draw(tmp_path, {"image": label, "label": label, "pred": pred}, ["background", "liver", "tumour"])
    assert legend(figures[0]) == ["liver, Dice 0.667", "tumour, none", "class 3, Dice 0.000", "prediction", "label"]
    assert class_color(1) == tuple(
        round(255 * x) for x in figures[0].subfigs[0].legends[0].get_patches()[0].get_facecolor()[:3]
    )


@pytest.mark.parametrize("shape", [(16, 12, 1), (4, 4, 200)])
def test_one_slice_and_a_long_volume_are_drawn(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    assert draw(tmp_path, {"image": np.ones(shape), "pred": np.ones(shape)}).size
