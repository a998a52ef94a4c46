"""Metrics: Dice per domain and class."""

from med3d_components.metrics.dice import AverageLabelDice, DomainDice

__all__ = ["AverageLabelDice", "DomainDice"]
