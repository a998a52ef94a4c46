"""Published weights: what they are (cards), and one loader that says what it did."""

from med3d_components.weights.cards import (
    CARDS,
    WeightCard,
    expected_intensity_range,
    expected_output_range,
)
from med3d_components.weights.load import LoadReport, load_checkpoint, load_encoder

__all__ = [
    "CARDS",
    "LoadReport",
    "WeightCard",
    "expected_intensity_range",
    "expected_output_range",
    "load_checkpoint",
    "load_encoder",
]
