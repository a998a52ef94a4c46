"""The commands of ``python -m med3d_components``, as functions."""

from med3d_components.commands.inference import classify, segment
from med3d_components.commands.planning import plan
from med3d_components.commands.training import evaluate, replay, train

__all__ = ["classify", "evaluate", "plan", "replay", "segment", "train"]
