"""Published weights: what they are (cards), and one loader that says what it did."""

from med3d_components.weights.cards import CARDS, WeightCard
from med3d_components.weights.load import load_checkpoint, load_encoder
from med3d_components.weights.report import LoadReport

__all__ = ["CARDS", "LoadReport", "WeightCard", "load_checkpoint", "load_encoder"]
