"""Recipes of the CT domains, in HU and mm. World axes are RAS: x grows to the patient's right hand, y to the front.

The anatomy is simplified: enough for the organ to have its place, its shape and neighbours that look like it.
"""

from __future__ import annotations

from math import inf

from scripts.samples.shapes import Shape, half_space, smooth_union
from scripts.samples.sketch import Sketch

__all__ = ["hepatic_vessel", "liver", "paint_body", "paint_ribs", "paint_spine", "pancreas", "spleen"]

FAT, MUSCLE, BONE, WATER, AIR = -100, 55, 420, 10, -1000
LIVER, SPLEEN, KIDNEY, BOWEL, PANCREAS, BLOOD, TUMOUR = 115, 130, 190, 35, 95, 170, 55


def spleen(sketch: Sketch) -> None:
    """Draw the abdomen; the spleen is label 1."""
    _torso(sketch)
    _bowel(sketch)
    sketch.paint(_liver(sketch), LIVER)
    sketch.paint(_spleen(sketch), SPLEEN, label=1)


def liver(sketch: Sketch) -> None:
    """Draw the abdomen; the liver is label 1, one or two tumours in it are label 2."""
    _torso(sketch)
    _bowel(sketch)
    sketch.paint(_spleen(sketch), SPLEEN)
    organ = _liver(sketch)
    sketch.paint(organ, LIVER, label=1)
    place = sketch.rng.uniform((58, -30, -15), (92, 28, 55))
    sketch.paint(organ.grown(-4) & sketch.ellipsoid(place, (27, 25, 25)), TUMOUR, label=2)
    if sketch.rng.random() < 0.5:
        sketch.paint(organ.grown(-4) & sketch.ellipsoid((14, 38, 50), (20, 18, 20)), TUMOUR, label=2)


def pancreas(sketch: Sketch) -> None:
    """Draw the mid-abdomen; the pancreas is label 1, a tumour in it is label 2."""
    _torso(sketch)
    _bowel(sketch)
    sketch.paint(_liver(sketch), LIVER)
    sketch.paint(_spleen(sketch), SPLEEN)
    # Head in the bend of the duodenum, body over the aorta, tail towards the spleen.
    path = [(42, 0, -62, 20), (26, 10, -40, 17), (0, 18, -28, 15), (-35, 5, -18, 15), (-66, -16, -8, 13)]
    duodenum = sketch.tube((34, 26, -16, 12), (66, 8, -44, 13), (72, -6, -76, 13), (46, -12, -102, 13))
    sketch.paint(duodenum, BOWEL)
    organ = sketch.tube(*path)
    sketch.paint(organ, PANCREAS, label=1)
    x, y, z, radius = path[sketch.rng.integers(len(path) - 1)]
    sketch.paint(sketch.ellipsoid((x, y, z), (radius + 2, radius, radius)), TUMOUR - 20, label=2)
    sketch.paint(sketch.tube((8, 2, -120, 6), (10, -6, -50, 6), (14, 2, 0, 6)), BLOOD)


def hepatic_vessel(sketch: Sketch) -> None:
    """Draw the upper abdomen; the vessels of the liver are label 1, a tumour next to them is label 2."""
    _torso(sketch)
    _bowel(sketch)
    sketch.paint(_spleen(sketch), SPLEEN)
    organ = _liver(sketch)
    sketch.paint(organ, LIVER)
    portal = sketch.tube((18, -14, 0, 10), (45, 0, 18, 10), (78, 6, 16, 8), (112, 4, 10, 5))
    branches = [
        sketch.tube((45, 0, 18, 9), (38, 18, 36, 7), (10, 34, 48, 6), (-22, 42, 50, 4)),
        sketch.tube((78, 6, 16, 7), (88, 22, -4, 6), (92, 30, -30, 4)),
        sketch.tube((66, 4, 18, 7), (86, -14, 40, 6), (104, -18, 58, 4)),
        sketch.tube((30, -14, 84, 9), (56, 4, 66, 7), (84, 24, 52, 5), (108, 26, 38, 4)),
    ]
    vessels = organ.grown(-2) & smooth_union([portal, *branches], blend=3)
    place = sketch.rng.choice([(66, 22, -12), (82, -34, 2), (40, 38, 22)])
    sketch.paint(organ.grown(-4) & sketch.ellipsoid(place, (23, 21, 21)), TUMOUR, label=2)
    sketch.paint(vessels, 215, label=1)


def paint_body(sketch: Sketch, muscle: float = MUSCLE) -> Shape:
    """Paint skin and muscles, these with an intensity; return what the muscles enclose, themselves included."""
    sketch.paint(sketch.ellipsoid((0, 0, 0), (172, 122, inf), turn=(0, 0, 0)), FAT)
    wall = sketch.ellipsoid((0, -2, 0), (150, 102, inf))
    sketch.paint(wall, muscle)
    return wall


def paint_ribs(sketch: Sketch, wall: Shape, heights: range, front: float) -> None:
    """Paint ribs in the wall, at heights in mm on the patient's axis; they slope down to the front and end there."""
    rib_cage = (wall.grown(-3) - wall.grown(-10)) & half_space((0, front, 0), (0, 1, 0))
    for height in heights:
        upper, lower = (half_space((0, 0, height + edge), (0, 0.35, edge)) for edge in (6, -6))
        sketch.paint(rib_cage & upper & lower, BONE)


def paint_spine(sketch: Sketch, muscle: float = MUSCLE) -> None:
    """Paint the spine and the muscles along it, these with an intensity."""
    sketch.paint(smooth_union([sketch.ellipsoid((x, -84, 0), (34, 22, inf)) for x in (-34, 34)], 10), muscle)
    sketch.paint(sketch.ellipsoid((0, -55, 0), (23, 18, inf)), BONE - 180)
    sketch.paint(sketch.tube((0, -94, -200, 9), (0, -94, 200, 9)) - sketch.ellipsoid((0, -80, 0), (9, 8, inf)), BONE)


def _torso(sketch: Sketch) -> None:
    """Paint skin, muscles, ribs, spine, aorta, vena cava and kidneys."""
    wall = paint_body(sketch)
    paint_ribs(sketch, wall, range(-90, 150, 34), front=60)  # where the belly begins
    sketch.paint(wall.grown(-14), FAT)
    paint_spine(sketch)
    sketch.paint(sketch.tube((-10, -28, -200, 11), (-8, -26, 0, 11), (-8, -28, 200, 12)), BLOOD)
    sketch.paint(sketch.tube((18, -26, -200, 11), (20, -22, 0, 12), (22, -16, 200, 13)), BLOOD - 30)
    for side in (-1, 1):
        kidney = sketch.ellipsoid((side * 68, -52, -38), (27, 25, 52), turn=(0, side * -12, 0))
        sketch.paint(kidney - sketch.ellipsoid((side * 44, -48, -38), (14, 12, 18)), KIDNEY)


def _bowel(sketch: Sketch) -> None:
    """Paint the stomach, with air in front, and loops of bowel."""
    stomach = smooth_union(
        [sketch.ellipsoid((-62, 30, 50), (36, 32, 44)), sketch.ellipsoid((-20, 42, 12), (40, 22, 20))], 14
    )
    sketch.paint(stomach, BOWEL)
    sketch.paint(stomach.grown(-4) & half_space((0, 48, 0), (0, -1, 0)), AIR)
    for _ in range(9):
        x, y, z = sketch.rng.uniform((-90, 0, -130), (90, 62, -40))
        sketch.paint(sketch.ellipsoid((x, y, z), (26, 17, 17), turn=sketch.rng.uniform(0, 180, 3)), BOWEL)


def _liver(sketch: Sketch) -> Shape:
    """Return the liver: a large right lobe under the ribs, a flat left lobe across the middle."""
    lobes = [sketch.ellipsoid((74, 0, 20), (56, 70, 76)), sketch.ellipsoid((10, 40, 52), (66, 30, 34), turn=(0, 12, 0))]
    hilum = sketch.ellipsoid((20, -22, 0), (30, 28, 40))
    return smooth_union(lobes, 24) - hilum


def _spleen(sketch: Sketch) -> Shape:
    """Return the spleen: a bean at the left back, hollow towards the stomach."""
    bean = sketch.ellipsoid((-92, -32, 44), (33, 46, 52), turn=(10, 0, 15))
    return bean - sketch.ellipsoid((-56, -4, 42), (30, 30, 40))
