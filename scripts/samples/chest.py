"""Recipes of chest CT, in HU and mm. World axes are RAS, as in the other CT recipes: the right lung lies at x > 0."""

from __future__ import annotations

import itertools
from math import inf
from typing import NamedTuple

import numpy as np

from scripts.samples.ct import (
    AIR,
    BLOOD,
    BONE,
    BOWEL,
    FAT,
    KIDNEY,
    LIVER,
    MUSCLE,
    paint_body,
    paint_ribs,
    paint_spine,
)
from scripts.samples.shapes import Knot, Shape, half_space, smooth_union
from scripts.samples.sketch import Sketch

__all__ = ["Lung", "lungs", "paint_chest"]

AERATED = -850


class Lung(NamedTuple):
    """A painted lung: all of it, and the vessels, which reach out of it at its root."""

    whole: Shape
    vessels: Shape


def lungs(sketch: Sketch) -> None:
    """Draw a child's or an adult's trunk; the right lung is label 1, the left lung label 2."""
    sketch.stature = sketch.rng.uniform(0.75, 1.15)
    paint_chest(sketch, labels=(1, 2))
    _paint_belly(sketch)
    _paint_neck(sketch)


def paint_chest(sketch: Sketch, labels: tuple[int, int] = (0, 0)) -> tuple[Lung, Lung]:
    """Paint the chest.

    Args:
        sketch: to paint on.
        labels: of the right and the left lung, with the vessels in them.

    Returns:
        The right and the left lung.
    """
    wall = paint_body(sketch)
    paint_ribs(sketch, wall, range(-180, 200, 30), front=82)
    cavity = wall.grown(-12)
    sketch.paint(cavity, FAT)
    _paint_bones(sketch, wall)
    heart = sketch.ellipsoid((-26, 26, -42), (54, 44, 56), turn=(0, 25, 20))
    right, left = (_lung(sketch, side, cavity, heart) for side in (1, -1))
    _paint_abdomen(sketch, cavity)
    sketch.paint(heart, BLOOD - 40)
    _paint_great_vessels(sketch)
    for lung, label in zip((right, left), labels, strict=True):
        sketch.paint(lung.whole, AERATED, label)
        sketch.paint(lung.whole & lung.vessels, 40, label)
    _paint_airways(sketch)
    return right, left


def _paint_bones(sketch: Sketch, wall: Shape) -> None:
    """Paint spine, sternum and shoulder blades."""
    paint_spine(sketch)
    sketch.paint(wall.grown(-2) & sketch.ellipsoid((0, 96, 20), (20, 8, 90)), BONE - 200)
    for side in (-1, 1):
        sketch.paint(sketch.ellipsoid((side * 92, -88, 60), (36, 5, 62), turn=(0, 0, side * 22)), BONE - 100)


def _lung(sketch: Sketch, side: int, cavity: Shape, heart: Shape) -> Lung:
    """Return the lung of a side, 1 for right: narrow at the top and hollow below."""
    body = sketch.ellipsoid((side * 70, -6, -60), (66, 94, 186), turn=(0, side * -6, 0))
    half = cavity & body & half_space((side * 4, 0, 0), (-side, 0, 0))
    whole = half - _diaphragm(sketch, side) - _mediastinum(sketch) - heart.grown(4)
    return Lung(whole, _vessels(sketch, side))


def _diaphragm(sketch: Sketch, side: int) -> Shape:
    """Return what lies below one half of the diaphragm; the right one stands higher, on the liver."""
    height = -76 if side > 0 else -90
    return sketch.ellipsoid((side * 68, 6, height - 90), (92, 112, 90))


def _mediastinum(sketch: Sketch) -> Shape:
    spine = sketch.ellipsoid((0, -58, 0), (34, 34, inf))
    middle = sketch.ellipsoid((-2, 0, 30), (34, 64, 150))
    root = sketch.ellipsoid((0, -8, -8), (48, 26, 34))
    return smooth_union([spine, middle, root, sketch.ellipsoid((0, 20, -150), (44, 80, 90))], 12)


def _paint_abdomen(sketch: Sketch, cavity: Shape) -> None:
    """Paint liver and spleen below the diaphragm, and a bubble of air in the stomach."""
    for side, intensity in ((1, LIVER), (-1, LIVER - 15)):
        sketch.paint(cavity.grown(-2) & _diaphragm(sketch, side).grown(-3), intensity)
    sketch.paint(sketch.ellipsoid((-58, 34, -128), (26, 20, 20)), AIR)


def _paint_belly(sketch: Sketch) -> None:
    """Paint the kidneys and loops of bowel, some of them with air, below liver and spleen."""
    for side in (-1, 1):
        sketch.paint(sketch.ellipsoid((side * 66, -50, -205), (28, 25, 52), turn=(0, side * -12, 0)), KIDNEY)
    for _ in range(8):
        place = sketch.rng.uniform((-85, 0, -320), (85, 60, -215))
        loop = sketch.ellipsoid(place, (28, 18, 18), turn=sketch.rng.uniform(0, 180, 3)).near(place, 42)
        sketch.paint(loop, BOWEL)
        if sketch.rng.random() < 0.4:
            sketch.paint(loop.grown(-5), AIR)


def _paint_neck(sketch: Sketch) -> None:
    """Paint the air above the shoulders, the muscles of the neck between it, and the trachea in them."""
    left, right = (half_space((side * 60, 0, 185), (-side * 0.45, 0, -0.9)) for side in (-1, 1))
    neck = sketch.ellipsoid((0, -30, 0), (70, 72, inf))
    sketch.paint((left | right) - neck, AIR)
    spine = sketch.ellipsoid((0, -72, 0), (30, 34, inf))
    sketch.paint((neck.grown(-6) & half_space((0, 0, 180), (0, 0, -1))) - spine, MUSCLE)
    sketch.paint(sketch.tube((0, -16, 165, 8), (0, -14, 230, 8), (0, -14, 380, 8)), AIR)


def _paint_great_vessels(sketch: Sketch) -> None:
    arch = [(10, 22, -10, 15), (10, 26, 30, 15), (-6, 4, 56, 13), (-22, -34, 36, 12), (-22, -40, -40, 11)]
    sketch.paint(sketch.tube(*arch, (-16, -34, -200, 11)), BLOOD)
    sketch.paint(sketch.tube((26, 18, -30, 10), (27, 16, 30, 9), (24, 14, 90, 9)), BLOOD)  # superior vena cava
    sketch.paint(sketch.tube((46, -6, 2, 9), (0, 4, 8, 12), (-44, -8, 10, 9)), BLOOD)  # pulmonary arteries


def _paint_airways(sketch: Sketch) -> None:
    """Paint the trachea and the main bronchi, which belong to neither lung."""
    bronchi: list[list[Knot]] = [[(2, -22, 26, 7), (x * 24, -22, 6, 6), (x * 46, -20, -8, 4.5)] for x in (1, -1)]
    lumen = sketch.tubes([(0, -16, 170, 8), (0, -20, 80, 8), (2, -22, 26, 8)], *bronchi)
    sketch.paint(lumen.grown(2), MUSCLE)
    sketch.paint(lumen, AIR)


def _vessels(sketch: Sketch, side: int) -> Shape:
    """Return vessels that leave the root of a lung, fork and thin out towards its surface."""
    paths: list[list[Knot]] = []
    for up, front in itertools.product((-1, 0, 1), (-1, 1)):
        start, fork = (side * 40, -10, 0, 5), (side * 62, -10 + 18 * front, 26 * up, 2.8)
        for spread in (-0.4, 0.4):
            rise, turn = sketch.rng.uniform(-0.25, 0.25, 2) + np.array((up + spread, front - spread))
            paths.append([start, fork, (side * 96, -10 + 52 * turn, 74 * rise, 1.3)])
    return sketch.tubes(*paths)
