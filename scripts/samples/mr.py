"""Recipes of the MR domains, in arbitrary units and mm. World axes are RAS, as in the CT recipes."""

from __future__ import annotations

from math import inf

from scripts.samples.shapes import half_space, smooth_union, waves
from scripts.samples.sketch import Sketch

__all__ = ["brain_tumour", "hippocampus", "left_atrium", "prostate"]


def brain_tumour(sketch: Sketch) -> None:
    """Draw a brain without its skull, seen as FLAIR, T1w, t1gd and T2w.

    The oedema is label 1, the core that takes up no contrast agent is label 2, the rim that does is label 3.
    """
    grey, white, water = (310, 270, 280, 340), (230, 360, 370, 240), (70, 100, 110, 620)
    folds = waves(sketch.rng, wavelength=16, channels=1)
    fissure = sketch.ellipsoid((0, 0, 60), (3, 120, 52))
    cerebrum = smooth_union([sketch.ellipsoid((side * 24, 0, 8), (43, 82, 56)) for side in (-1, 1)], 20)
    cerebellum = smooth_union([sketch.ellipsoid((side * 22, -48, -38), (28, 26, 22)) for side in (-1, 1)], 10)
    sketch.paint(smooth_union([cerebrum, cerebellum], 6).grown(2), water)
    sketch.paint(smooth_union([cerebellum, sketch.tube((0, -22, -10, 14), (0, -32, -70, 11))], 6), white)
    cerebrum = cerebrum.wrinkled(folds, depth=1.5) - fissure
    sketch.paint(cerebrum, grey)
    sketch.paint(cerebrum.grown(-9).wrinkled(folds, depth=2.5), white)
    for side in (-1, 1):
        horn = sketch.tube((side * 12, 34, 12, 5), (side * 14, 0, 24, 8), (side * 24, -36, 12, 9))
        sketch.paint(sketch.ellipsoid((side * 22, 6, 6), (11, 20, 14)), grey)
        sketch.paint(horn, water)
    side = sketch.rng.choice((-1, 1))
    x, y, z = sketch.rng.uniform((30, -22, 5), (38, 36, 25)) * (side, 1, 1)
    tumour = sketch.ellipsoid((x, y, z), (25, 27, 25), turn=sketch.rng.uniform(0, 90, 3))
    core = tumour.grown(-4) & sketch.ellipsoid((x, y + 9, z + 3), (14, 14, 14))
    oedema = smooth_union([tumour.grown(6), sketch.ellipsoid((x, y - 24, z + 8), (24, 28, 24))], 8)
    sketch.paint(cerebrum.grown(-2) & oedema, (530, 230, 240, 520), label=1)
    sketch.paint(tumour, (440, 290, 620, 400), label=3)
    sketch.paint(core, (170, 170, 180, 470), label=2)


def hippocampus(sketch: Sketch) -> None:
    """Draw a piece of the temporal lobe; the front part of the hippocampus is label 1, its rear part label 2."""
    grey, water = 430, 150
    sketch.paint(sketch.tube((-18, 34, -14, 5), (-20, 4, -18, 6), (-17, -30, -14, 5)), grey)
    sketch.paint(sketch.tube((17, 34, -12, 4), (20, 0, -14, 4), (17, -30, -8, 4)), grey)
    sketch.paint(sketch.ellipsoid((1, 24, 8), (8, 7, 7)), grey + 20)  # amygdala
    sketch.paint(sketch.tube((8, 18, 4, 3), (10, 0, 5, 3), (6, -20, 10, 4)), water)
    sketch.paint(sketch.tube((-12, 10, 14, 5), (-10, -8, 18, 6), (-6, -24, 20, 5)), grey)
    head = sketch.ellipsoid((2, 13, -4), (9, 8, 6.5), turn=(0, 0, 20))
    body = sketch.tube((2, 12, -4, 5.5), (3, 0, -4, 5), (1, -12, 0, 5), (-4, -21, 7, 4))
    organ = smooth_union([head, body], 3)
    border = (0, 3 + sketch.rng.uniform(-1.5, 1.5), 0)
    sketch.paint(organ, grey, label=2)
    sketch.paint(organ & half_space(border, (0, -1, -0.15)), grey + 10, label=1)


def prostate(sketch: Sketch) -> None:
    """Draw the pelvis, seen as T2 and ADC; the peripheral zone is label 1, the transition zone label 2."""
    fat, muscle, bone = (620, 250), (190, 900), (380, 300)
    sketch.paint(sketch.ellipsoid((0, 0, 0), (150, 110, inf)), fat)
    for side in (-1, 1):
        sketch.paint(sketch.tube((side * 46, 30, 60, 13), (side * 38, -8, 0, 13), (side * 30, -40, -60, 12)), muscle)
        sketch.paint(sketch.ellipsoid((side * 62, 6, 16), (22, 24, 24)), bone)
        sketch.paint(sketch.tube((side * 4, 42, -8, 9), (side * 40, 44, 12, 10)), bone)
    sketch.paint(sketch.ellipsoid((0, -52, 0), (20, 18, inf)), muscle)
    sketch.paint(sketch.ellipsoid((0, -52, 0), (14, 12, inf)), (90, 200))  # air and stool of the rectum
    sketch.paint(sketch.ellipsoid((0, 14, 54), (36, 28, 28)), (1050, 2400))  # bladder
    for side in (-1, 1):
        sketch.paint(sketch.ellipsoid((side * 17, -24, 32), (15, 8, 8), turn=(0, side * -25, 0)), (820, 1700))
    gland = sketch.ellipsoid((0, -6, -2), (30, 23, 26))
    sketch.paint(gland.grown(2), muscle)
    sketch.paint(gland, (780, 1750), label=1)
    sketch.paint(gland.grown(-2) & sketch.ellipsoid((0, 3, 0), (22, 16, 22)), (430, 1250), label=2)


def left_atrium(sketch: Sketch) -> None:
    """Draw the heart; the left atrium, with its appendage and the mouths of four pulmonary veins, is label 1."""
    blood, muscle, lung = 600, 250, 50
    sketch.paint(sketch.ellipsoid((0, 0, 0), (150, 110, inf)), 420)
    sketch.paint(sketch.ellipsoid((0, -4, 0), (132, 90, inf)), lung)
    sketch.paint(
        smooth_union([sketch.ellipsoid((0, -62, 0), (22, 20, inf)), sketch.ellipsoid((0, -92, 0), (60, 20, inf))], 8),
        330,
    )
    sketch.paint(sketch.tube((-22, -34, -90, 11), (-20, -36, 90, 11)), blood)  # descending aorta
    heart = smooth_union(
        [sketch.ellipsoid((-14, 18, -12), (58, 44, 52)), sketch.ellipsoid((0, -6, 14), (46, 34, 40))], 16
    )
    sketch.paint(heart.grown(5), 430)
    sketch.paint(heart, muscle)
    sketch.paint(sketch.ellipsoid((-44, 22, -24), (20, 20, 28), turn=(0, 30, 0)), blood)  # left ventricle
    sketch.paint(sketch.ellipsoid((2, 40, -16), (26, 14, 28), turn=(0, 20, 0)), blood)  # right ventricle
    sketch.paint(sketch.ellipsoid((36, 18, -2), (20, 20, 26)), blood)  # right atrium
    sketch.paint(sketch.tube((-4, 20, -4, 11), (0, 24, 30, 13), (4, 14, 80, 13)), blood)  # ascending aorta
    veins = [
        sketch.tube((side * 18, -16, 8, 10), (side * 40, -26, 8 + rise, 8), (side * 58, -34, 8 + 1.6 * rise, 7))
        for side in (-1, 1)
        for rise in (-12, 14)
    ]
    appendage = sketch.tube((-22, -6, 16, 11), (-34, 4, 22, 10), (-40, 15, 20, 8))
    body = sketch.ellipsoid((0, -12, 6), (32, 20, 25))
    sketch.paint(body.grown(3), muscle)
    sketch.paint(smooth_union([body, *veins, appendage], 5), blood, label=1)
