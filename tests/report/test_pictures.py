from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from med3d_components.masks import class_color
from med3d_components.report import draw_planes
from med3d_components.report.page import TEMPLATES
from med3d_components.report.pictures import TILE


def draw(image: NDArray, label: NDArray, spacing: tuple[float, ...] = (1, 1, 1), **options: object) -> NDArray:
    """Return the tiles of the three planes, (plane, rows, columns, RGB)."""
    picture = imread(io.BytesIO(draw_planes(image, label, np.diag([*spacing, 1.0]), **options)), format="jpeg")
    assert picture.shape == (TILE, 3 * TILE, 3)
    return np.stack(np.split(picture.astype(int), 3, axis=1))


def bright(tile: NDArray) -> tuple[float, float]:
    """Return row and column of the middle of what is bright."""
    rows, columns = np.nonzero(tile.sum(axis=-1) > 500)
    return float(rows.mean()), float(columns.mean())


def test_the_patients_right_anterior_and_superior_lie_where_radiologists_expect_them() -> None:
    image = np.zeros((30, 30, 30))
    image[24:28, 24:28, 24:28] = 100  # right, anterior, superior
    label = np.zeros(image.shape, np.uint8)
    label[26, 26, 26] = 1
    for tile in draw(image, 0 * label, window=(0, 100)):
        assert tile.max() < 30, "the middle planes miss it"
    middle = TILE / 2
    for tile in draw(image, label, window=(0, 100)):
        row, column = bright(tile)
        assert row < middle
        assert column < middle


def test_lengths_are_true_and_a_plane_fills_its_square() -> None:
    image = np.full((20, 40, 10), 100.0)
    axial, coronal, sagittal = draw(image, np.zeros(image.shape, np.uint8), (2, 1, 8), window=(0, 100))
    for tile, across, down in ((axial, 40, 40), (coronal, 40, 80), (sagittal, 40, 80)):
        rows, columns = (np.ptp(places) + 1 for places in np.nonzero(tile.sum(axis=-1) > 380))
        assert columns == pytest.approx(TILE * across / 80, abs=2)
        assert rows == pytest.approx(TILE * down / 80, abs=2)


def test_a_class_has_its_color_thin_within_and_full_at_its_edge() -> None:
    image, label = np.zeros((36, 36, 36)), np.zeros((36, 36, 36), np.uint8)
    label[9:27, 9:27, 9:27] = 2
    axial = draw(image, label, window=(0, 100))[0]
    color = np.array(class_color(2))
    side = TILE // 4
    np.testing.assert_allclose(axial[TILE // 2, TILE // 2], color * 60 / 255, atol=8)
    assert np.abs(axial[side : side + 3, TILE // 2] - color).max(axis=-1).min() < 60
    assert axial[10, 10].max() < 10


@pytest.mark.parametrize("shape", [(1, 1, 1), (400, 3, 1), (2, 300, 200)])
def test_volumes_of_any_shape_are_drawn(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(size=shape)
    draw(image, np.ones(shape, np.uint8))


@pytest.mark.parametrize("sigma", [0, 30, 150])
def test_a_picture_has_no_more_than_15_kilobytes(sigma: float) -> None:
    image = np.full((180, 180, 180), -1000.0)
    image[20:160, 40:140] = 40
    image += np.random.default_rng(0).normal(0, sigma, image.shape)
    assert len(draw_planes(image, np.zeros(image.shape, np.uint8), np.eye(4), (-200, 300))) <= 15_000


def test_values_that_are_no_numbers_are_borne() -> None:
    image = np.random.default_rng(0).normal(size=(30, 30, 30))
    image[::7], image[1::7] = np.nan, np.inf
    assert draw(image, np.zeros(image.shape, np.uint8)).std() > 30
    draw(np.full((5, 5, 5), np.nan), np.zeros((5, 5, 5), np.uint8))


def test_the_letters_lie_on_the_grid_of_the_planes() -> None:
    assert f'viewBox="0 0 {3 * TILE} {TILE}"' in (TEMPLATES / "letters.svg").read_text(encoding="utf-8")
