"""Metrics: Dice per domain and class, AUC and accuracy of a two-class classifier, and baselines of both."""

from med3d_components.metrics.classification import BinaryClassification, SizeBaseline, auc_interval, roc_auc
from med3d_components.metrics.dice import AverageLabelDice, DomainDice

__all__ = ["AverageLabelDice", "BinaryClassification", "DomainDice", "SizeBaseline", "auc_interval", "roc_auc"]
