"""Metrics: Dice per domain and class, surfaces in mm, lesions, those of LiTS, AUC and accuracy of two classes.

And baselines, whether a network is as sure as it is right, and what a scan costs.
"""

from med3d_components.metrics.baselines import AverageLabelDice, IntensityWindowDice
from med3d_components.metrics.calibration import Calibration
from med3d_components.metrics.classification import BinaryClassification, SizeBaseline, auc_interval, roc_auc
from med3d_components.metrics.cost import ScanCost
from med3d_components.metrics.detection import LesionDetection
from med3d_components.metrics.dice import DomainDice
from med3d_components.metrics.lits import LitsMetrics
from med3d_components.metrics.restoration import Restoration
from med3d_components.metrics.surface import SurfaceMetrics

__all__ = [
    "AverageLabelDice",
    "BinaryClassification",
    "Calibration",
    "DomainDice",
    "IntensityWindowDice",
    "LesionDetection",
    "LitsMetrics",
    "Restoration",
    "ScanCost",
    "SizeBaseline",
    "SurfaceMetrics",
    "auc_interval",
    "roc_auc",
]
