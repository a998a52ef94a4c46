from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from scripts.study import pictures as study


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    drawn: list[Figure] = []
    save = study.save_figure  # type: ignore[attr-defined]

    def keep(figure: Figure, path: Path) -> None:
        drawn.append(figure)
        save(figure, path)

    monkeypatch.setattr(study, "save_figure", keep)
    return drawn


def test_curves_are_means_in_a_band_from_the_lowest_to_the_highest(tmp_path: Path, figures: list[Figure]) -> None:
    curves = [[(10, 0.2), (20, 0.4)], [(10, 0.4), (20, 0.8)], [(10, 0.3)]]
    of_inits = {("R10", "100 %", "scratch"): curves, ("R10", "100 %", "med3d"): curves[:1]}
    of_inits |= {("R10", "10 %", "med3d"): curves[:2], ("R18", "10 %", "med3d"): curves[:1]}
    rows = [(*key, *point) for key, of_seeds in of_inits.items() for curve in of_seeds for point in curve]
    table = pd.DataFrame(rows, columns=["network", "cases", "init", "iteration", "score"])
    study.draw_learning_bands(tmp_path / "curves.png", table, "score")
    assert imread(tmp_path / "curves.png").shape[2] == 4
    panels = {axes.get_title(): axes for axes in figures[0].axes}
    assert set(panels) == {"R10, 100 %", "R10, 10 %", "R18, 100 %", "R18, 10 %"}
    scratch = panels["R10, 100 %"].lines[0]
    assert np.allclose(scratch.get_xydata(), [(10, 0.3), (20, 0.6)])
    band = panels["R10, 100 %"].collections[0].get_datalim(panels["R10, 100 %"].transData)
    assert np.allclose([band.y0, band.y1], [0.2, 0.8])
    assert panels["R10, 10 %"].lines[0].get_color() == panels["R10, 100 %"].lines[1].get_color()
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["scratch", "med3d"]


def test_scores_are_dots_of_seeds_over_the_shares(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [("scratch", 1, 0.8), ("scratch", 0.1, 0.2), ("scratch", 0.1, 0.4), ("med3d", 1, 0.9)]
    table = pd.DataFrame(rows, columns=["init", "share", "end"]).assign(network="R10")
    study.draw_shares(tmp_path / "shares.png", table, "score")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10 %", "100 %"]
    assert np.allclose(axes.lines[0].get_ydata(), [0.3, 0.8])
    assert np.allclose(axes.lines[1].get_ydata(), [0.8, 0.2, 0.4])
    assert imread(tmp_path / "shares.png").shape[2] == 4
