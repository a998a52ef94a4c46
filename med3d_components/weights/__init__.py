"""Published weights: what they are (cards), and one loader that says what it did."""

from med3d_components.weights.cards import CARDS, WeightCard
from med3d_components.weights.load import LoadReport, load_checkpoint, load_encoder

__all__ = ["CARDS", "LoadReport", "WeightCard", "load_checkpoint", "load_encoder"]
