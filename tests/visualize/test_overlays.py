from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from med3d_components.visualize import draw_overlays


def test_label_and_prediction_are_drawn_in_colour_over_a_grey_image(tmp_path: Path) -> None:
    image, label = np.random.default_rng(0).normal(size=(16, 12, 8)), np.zeros((16, 12, 8))
    label[4:9, 3:8, 2:6] = 1
    pictures = []
    for prediction in (np.zeros_like(label), label * 2):
        case = {"title": "a case", "image": image, "label": label * 0, "pred": prediction}
        draw_overlays(tmp_path / "overlays.png", [case])
        picture = imread(tmp_path / "overlays.png")[..., :3]
        pictures.append(np.ptp(picture, axis=2).max())
    assert pictures[0] == 0
    assert pictures[1] > 0.3
