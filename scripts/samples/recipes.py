"""How to make a synthetic scan of each domain: the anatomy to draw, and the scanner to look at it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from med3d_components.data.domains import DOMAINS_3DSEG8, DomainFacts
from scripts.samples import chest, ct, livers, mr
from scripts.samples.sketch import Sketch

__all__ = ["RECIPES", "SYNTHETIC_DOMAINS", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A synthetic domain. Axes are left-right, back-front and down-up; a file may have them in another order.

    Attributes:
        draw: paints the anatomy of one patient.
        size: in mm, of the organ; the scale of the variation between patients.
        voxels: of the grid.
        spacing: of the grid in mm, varied by a tenth from scan to scan.
        center: of the grid in mm.
        background: intensity outside the patient, one value per channel.
        noise: standard deviation of the noise, in the units that the anatomy is painted in.
        shifts: of the grid in mm upwards, from one patient to the next; after the last the first follows.
        wander: how far a grid's centre may lie from there along each axis, in sizes.
        spread: how many voxels more or fewer a grid may have along each axis.
    """

    draw: Callable[[Sketch], None]
    size: float
    voxels: tuple[int, int, int]
    spacing: tuple[float, float, float]
    center: tuple[float, float, float]
    background: tuple[float, ...]
    noise: float
    shifts: tuple[float, ...] = (0,)
    wander: tuple[float, float, float] = (0.03, 0.03, 0.03)
    spread: int = 3


RECIPES = {
    "Task01_BrainTumour": Recipe(
        mr.brain_tumour, 100, (58, 66, 48), (2.7, 2.7, 3.2), (0, -4, 4), background=(0, 0, 0, 0), noise=18
    ),
    "Task04_Hippocampus": Recipe(
        mr.hippocampus, 40, (40, 56, 40), (1.0, 1.0, 1.1), (0, 0, 0), background=(600,), noise=30
    ),
    "Task05_Prostate": Recipe(mr.prostate, 55, (60, 60, 40), (2.0, 2.0, 2.6), (0, -6, 4), background=(0, 0), noise=35),
    "Task03_Liver": Recipe(ct.liver, 150, (68, 52, 46), (5.0, 5.0, 5.6), (0, 0, 12), background=(ct.AIR,), noise=16),
    "LASC2018_LeftAtrium": Recipe(
        mr.left_atrium, 80, (62, 56, 44), (2.4, 2.4, 2.8), (0, -2, 2), background=(0,), noise=40
    ),
    "Task07_Pancreas": Recipe(
        ct.pancreas, 110, (64, 52, 44), (3.2, 3.2, 3.6), (0, 2, -35), background=(ct.AIR,), noise=14
    ),
    "Task08_HepaticVessel": Recipe(
        ct.hepatic_vessel, 150, (58, 52, 44), (3.6, 3.6, 4.2), (46, 2, 20), background=(ct.AIR,), noise=14
    ),
    "Task09_Spleen": Recipe(ct.spleen, 110, (68, 52, 46), (5.0, 5.0, 5.6), (0, 0, 12), background=(ct.AIR,), noise=16),
    "Synthetic_Lungs": Recipe(
        chest.lungs,
        150,
        (64, 54, 54),
        (5.2, 5.2, 5.6),
        (0, 0, 0),
        background=(ct.AIR,),
        noise=16,
        # From the neck to the kidneys and off the table's middle: a guess without a look at the scan is a poor one.
        wander=(0.33, 0.2, 0.6),
        spread=8,
    ),
    "Synthetic_Livers": Recipe(
        livers.livers,
        150,
        (72, 60, 56),
        (4.8, 4.5, 4.8),
        (0, 0, 20),
        background=(ct.AIR,),
        noise=16,
        # Six scans of the whole liver; then some without its upper (-) or lower (+) part, and the pelvis alone.
        shifts=(0, 0, 0, 0, 0, 0, -120, 0, 135, 0, -105, -290, 115, 0, 0, 0),
    ),
}

SYNTHETIC_DOMAINS = {
    **DOMAINS_3DSEG8,
    "Synthetic_Lungs": DomainFacts(
        modality="CT",
        target="lungs",
        classes=("background", "right lung", "left lung"),
        source="drawn by a program",
        licence="CC0 1.0",
        channels=("CT",),
    ),
    "Synthetic_Livers": DomainFacts(
        modality="CT",
        target="liver and its tumours",
        classes=("background", "liver", "cancer"),
        source="drawn by a program",
        licence="CC0 1.0",
        channels=("CT",),
    ),
}
"""The facts of the domains that there are recipes of: the eight of 3DSeg-8, one of lungs and one of livers."""
