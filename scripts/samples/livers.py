"""Recipe of CT of the trunk after contrast, in which the liver has the HU of its neighbours. World axes are RAS.

Spleen, stomach, bowel, kidneys and muscles are about as bright as the liver, and touch it or one another: a window of
HU finds all of them in one piece. Place, shape and the vessels inside tell the liver from them.
"""

from __future__ import annotations

from math import inf

import numpy as np

from scripts.samples.ct import (
    AIR,
    BLOOD,
    BONE,
    FAT,
    LIVER,
    WATER,
    paint_body,
    paint_ribs,
    paint_spine,
)
from scripts.samples.shapes import Shape, half_space, smooth_union
from scripts.samples.sketch import Sketch

__all__ = ["livers"]

MUSCLE, SPLEEN, KIDNEY, PANCREAS, STOMACH_WALL, CONTENTS = 100, 110, 140, 100, 105, (75, 120)
TUMOUR, AERATED = 62, -850


def livers(sketch: Sketch) -> None:
    """Draw the trunk from the heart to the pelvis; the liver is label 1, tumours in most of them are label 2."""
    cavity = _paint_trunk(sketch)
    _paint_chest(sketch, cavity)
    _paint_pelvis(sketch)
    _paint_bowel(sketch, cavity)
    _paint_stomach(sketch)
    sketch.paint(cavity.grown(2) & _spleen(sketch), SPLEEN)
    organ = cavity.grown(2) & _liver(sketch)
    sketch.paint(organ, LIVER, label=1)
    sketch.paint(organ.grown(-5) & _vessels(sketch), BLOOD - 5, label=1)
    _paint_tumours(sketch, organ)
    sketch.paint(sketch.ellipsoid((50, 34, -30), (15, 17, 25), turn=(-20, 0, 0)), WATER)  # gall bladder


def _paint_trunk(sketch: Sketch) -> Shape:
    """Paint what the organs lie in and in front of: body, bones, great vessels, kidneys; return their cavity."""
    wall = paint_body(sketch, MUSCLE)
    paint_ribs(sketch, wall, range(-90, 320, 34), front=60)
    cavity = wall.grown(-14)
    sketch.paint(cavity, FAT)
    paint_spine(sketch, MUSCLE)
    for side in (-1, 1):
        psoas = sketch.tube((side * 28, -50, 0, 8), (side * 42, -44, -110, 19), (side * 62, -20, -260, 20))
        sketch.paint(psoas, MUSCLE)
        kidney = sketch.ellipsoid((side * 68, -50, -38), (29, 26, 54), turn=(0, side * -12, 0))
        sketch.paint(kidney - sketch.ellipsoid((side * 44, -46, -38), (14, 12, 18)), KIDNEY)
    sketch.paint(sketch.tube((-10, -28, -190, 10), (-8, -24, 0, 11), (-14, -30, 300, 12)), BLOOD)
    sketch.paint(sketch.tube((16, -26, -190, 11), (20, -22, 0, 12), (18, 10, 160, 13)), BLOOD - 20)
    return cavity


def _paint_chest(sketch: Sketch, cavity: Shape) -> None:
    """Paint the lungs above the two domes of the diaphragm, with the heart between them."""
    domes = [sketch.ellipsoid((x, 0, -20), (82, 108, height)) for x, height in ((66, 128), (-66, 116))]
    middle = sketch.ellipsoid((0, -8, 0), (40, 120, inf))
    lungs = cavity.grown(-2) & half_space((0, 0, 35), (0, 0, -1))
    sketch.paint(lungs - smooth_union(domes, 30) - middle, AERATED)
    sketch.paint(sketch.ellipsoid((-28, 28, 152), (58, 46, 48), turn=(0, 25, 20)), BLOOD - 30)


def _paint_bowel(sketch: Sketch, cavity: Shape) -> None:
    """Paint loops of bowel down to the pelvis, and the colon around them."""
    for height in (-80, -125, -170, -215, -260, -300):
        for _ in range(3):
            place = (*sketch.rng.uniform((-70, -10), (70, 62)), height)
            loop = sketch.ellipsoid(place, (30, 18, 18), turn=sketch.rng.uniform(0, 180, 3))
            sketch.paint((cavity & loop).near(place, 42), sketch.rng.uniform(*CONTENTS))
    colon = [(100, -10, -210, 20), (102, 6, -80, 19), (0, 66, -66, 17), (-104, -4, -20, 17), (-106, -16, -210, 16)]
    gut = cavity & sketch.tube(*colon)
    sketch.paint(gut, STOMACH_WALL)
    sketch.paint(gut.grown(-7), sketch.rng.choice((AIR, 60, 90)))


def _paint_pelvis(sketch: Sketch) -> None:
    """Paint the bones of the pelvis in their muscles, and the bladder between them."""
    for side in (-1, 1):
        blade = sketch.ellipsoid((side * 94, -30, -270), (9, 52, 66), turn=(0, side * 20, side * 30))
        hip = sketch.ellipsoid((side * 90, -8, -375), (26, 26, 30))
        sketch.paint(smooth_union([blade.grown(14), hip.grown(16)], 20), MUSCLE)
        sketch.paint(blade | hip, BONE - 150)
    sketch.paint(sketch.ellipsoid((0, 24, -360), (42, 36, 34)), WATER)


def _paint_stomach(sketch: Sketch) -> None:
    """Paint the stomach, with what was eaten and some air in it, and the pancreas behind."""
    bag = [sketch.ellipsoid((-62, 24, 52), (38, 36, 46)), sketch.ellipsoid((-18, 44, 6), (44, 24, 22))]
    stomach = smooth_union(bag, 14)
    sketch.paint(stomach, STOMACH_WALL)
    sketch.paint(stomach.grown(-8), sketch.rng.uniform(*CONTENTS))
    sketch.paint(stomach.grown(-5) & half_space((0, sketch.rng.uniform(38, 52), 0), (0, -1, 0)), AIR)
    sketch.paint(sketch.tube((46, 2, -44, 16), (24, 10, -22, 14), (-30, 0, -8, 13), (-74, -18, 8, 12)), PANCREAS)


def _spleen(sketch: Sketch) -> Shape:
    """Return the spleen: against the ribs at the left back, hollow towards the stomach."""
    bean = sketch.ellipsoid((-100, -30, 44), (36, 50, 54), turn=(10, 0, 15))
    return bean - sketch.ellipsoid((-56, -2, 42), (30, 30, 40))


def _liver(sketch: Sketch) -> Shape:
    """Return the liver: a large right lobe against the ribs, a flat left lobe that ends before the stomach."""
    right = sketch.ellipsoid((80, -4, 20), (62, 78, 80))
    left = sketch.ellipsoid((8, 40, 54), (68, 32, 36), turn=(0, 12, 0))
    hilum = sketch.ellipsoid((18, -20, -4), (30, 30, 42))
    return smooth_union([right, left], 24) - hilum


def _vessels(sketch: Sketch) -> Shape:
    """Return the veins of the liver, bright within it."""
    return sketch.tubes(
        [(30, -10, 0, 9), (52, 2, 16, 9), (80, 6, 16, 7), (116, 2, 8, 4)],
        [(52, 2, 16, 8), (36, 22, 36, 7), (6, 38, 50, 6), (-26, 44, 56, 4)],
        [(78, 6, 16, 7), (88, 24, -6, 6), (92, 30, -34, 4)],
        [(24, -16, 84, 9), (54, 2, 68, 8), (86, 18, 50, 6), (112, 24, 34, 4)],
        [(28, -18, 80, 8), (66, -30, 50, 7), (98, -36, 22, 5)],
    )


def _paint_tumours(sketch: Sketch, organ: Shape) -> None:
    """Paint up to three tumours in the liver, darker than it and lumpy."""
    for _ in range(sketch.rng.choice((0, 1, 2, 3), p=(0.2, 0.35, 0.25, 0.2))):
        radius = sketch.rng.uniform(12, 28)
        places = sketch.rng.uniform((-20, -50, -40), (120, 60, 90), (200, 3)).astype(np.float32)
        place = places[np.argmax(organ.distance(places.T) < -12)]  # the first that is well inside
        lump = sketch.ellipsoid(place, radius * sketch.rng.uniform(0.8, 1.2, 3), turn=sketch.rng.uniform(0, 90, 3))
        sketch.paint(organ.grown(-3) & lump, TUMOUR, label=2)
