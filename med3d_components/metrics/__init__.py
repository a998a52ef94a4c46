"""Metrics: Dice per domain and class, surfaces in mm, those of LiTS, AUC and accuracy of two classes, and baselines."""

from med3d_components.metrics.baselines import AverageLabelDice, IntensityWindowDice
from med3d_components.metrics.classification import BinaryClassification, SizeBaseline, auc_interval, roc_auc
from med3d_components.metrics.dice import DomainDice
from med3d_components.metrics.lits import LitsMetrics
from med3d_components.metrics.restoration import Restoration
from med3d_components.metrics.surface import SurfaceMetrics

__all__ = [
    "AverageLabelDice",
    "BinaryClassification",
    "DomainDice",
    "IntensityWindowDice",
    "LitsMetrics",
    "Restoration",
    "SizeBaseline",
    "SurfaceMetrics",
    "auc_interval",
    "roc_auc",
]
