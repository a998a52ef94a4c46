"""Metrics: Dice per domain and class, surfaces in mm, AUC and accuracy of a two-class classifier, and baselines."""

from med3d_components.metrics.classification import BinaryClassification, SizeBaseline, auc_interval, roc_auc
from med3d_components.metrics.dice import AverageLabelDice, DomainDice
from med3d_components.metrics.surface import SurfaceMetrics

__all__ = [
    "AverageLabelDice",
    "BinaryClassification",
    "DomainDice",
    "SizeBaseline",
    "SurfaceMetrics",
    "auc_interval",
    "roc_auc",
]
