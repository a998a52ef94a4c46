"""What Chen, Ma and Zheng 2019 (Med3D, arXiv:1904.00625) print, for the bundles that repeat their experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COLUMNS", "PAPER", "PaperTable", "paper_column"]

COLUMNS = ("TFS", "Kin", "Med3D")
"""Trained from scratch, from Kinetics weights, from Med3D."""

Row = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class PaperTable:
    """Scores in %, by network, of the paper's columns.

    Attributes:
        title: of the table.
        score: what is scored.
        column: of metrics.csv that is the same score.
        rows: network to the three scores.
    """

    title: str
    score: str
    column: str
    rows: Mapping[str, Row]


PAPER = {
    "lung_segmentation": PaperTable(
        "Table 2 of the paper, lung segmentation (VISCERAL, 72 scans to train and 8 to test)",
        "Dice in %",
        "val_mean_dice",
        {
            "R10": (71.30, None, 87.16),
            "R18": (75.22, 83.21, 87.26),
            "R34": (76.82, 85.82, 89.31),
            "R50": (71.75, 87.11, 93.31),
            "R101": (72.10, 88.32, 92.79),
            "R152": (73.29, 88.61, 92.33),
            "R200": (71.29, None, 92.06),
            "PreR200": (70.66, None, 93.82),
        },
    ),
    "lung_nodule_ct_classification": PaperTable(
        "Table 2 of the paper, nodule classification (LIDC, 1050 nodules to train and 99 to test)",
        "accuracy in %",
        "accuracy",
        {
            "R10": (79.80, None, 86.87),
            "R18": (80.80, 82.83, 88.89),
            "R34": (83.84, 83.84, 89.90),
            "R50": (84.85, 74.75, 89.90),
            "R101": (81.82, 74.75, 90.91),
            "R152": (73.74, 75.76, 90.91),
            "R200": (76.77, None, 90.91),
            "PreR200": (74.75, None, 91.92),
        },
    ),
    "liver_ct_fine_segmentation": PaperTable(
        "Table 3 of the paper, liver (LiTS, 131 scans to train and 70 to test)",
        "Dice in %",
        "val_mean_dice",
        {"R152": (66.0, 89.6, 94.6)},
    ),
}


def paper_column(init: str, weights: str) -> str | None:
    """Return which of the paper's columns an initialisation stands beside, None if it has none there.

    A file of your own stands beside Med3D if you call it med3d, whatever follows.
    """
    if weights == "none":
        return "TFS"
    if weights.startswith("kinetics:"):
        return "Kin"
    return "Med3D" if weights == "medicalnet" or init.lower().startswith("med3d") else None
