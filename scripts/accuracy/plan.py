"""Which trainings the study of accuracy consists of: all of them, before any of them runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["GROUPS", "SECONDS_A_STEP", "Trial", "plan"]

SECONDS_A_STEP = {"unet": 1.2, "paper": 0.35, "basic_unet": 1.4}
"""Of four whole hippocampi on one thread, bf16; what a trial's minutes are turned into epochs by, see docs/accuracy.md."""

STEPS_AN_EPOCH = 40
"""160 hippocampi, four to a step."""

HIPPOCAMPUS: Mapping[str, Any] = {"depth": 10, "batch_size": 4, "patch_size": [40, 56, 40], "num_workers": 0}
"""Options of all trainings on hippocampi: the whole volume, padded or cut to the size of most of them."""

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "unet": {"decoder": "unet"},
    "paper": {"decoder": "paper"},
    "basic_unet": {},
}

ABLATION: Mapping[str, Mapping[str, Any]] = {
    "modern": {},
    "without augmentation": {"augmentation": "paper"},
    "without mirroring": {"flip_left_right": False},
    "without deep supervision": {"deep_supervision": False},
    "without average": {"ema_decay": 0},
    "without warm-up": {"warmup_steps": 0},
    "polynomial for cosine": {"schedule": "polynomial"},
    "without weight decay": {"weight_decay": 0},
    "without clipping": {"clip_norm": 0},
    "paper's recipe": {"recipe": "paper", "learning_rate": 0.001},
}


@dataclass(frozen=True)
class Trial:
    """A training, and the cases that it is scored on once it has ended.

    Attributes:
        group: what it belongs to, see ``GROUPS``.
        name: of the row.
        network: "unet", "paper" or "basic_unet".
        data: name of the data set, see :mod:`scripts.accuracy.data`.
        fold: of the data set's splits_final.json.
        epochs: passes over the training cases.
        validations: how often it is scored, at equal distances, the last time at its end; the last network is kept.
        seed: of the training.
        options: of the bundle, beside those.
    """

    group: str
    name: str
    network: str
    data: str
    fold: int
    epochs: int
    seed: int
    validations: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    bundle: str = "lung_segmentation"
