"""The commands of ``python -m med3d_components``, as functions."""

from med3d_components.commands.data import check
from med3d_components.commands.inference import classify, segment
from med3d_components.commands.training import evaluate, train

__all__ = ["check", "classify", "evaluate", "segment", "train"]
