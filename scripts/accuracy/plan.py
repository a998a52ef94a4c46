"""Which trainings the study of accuracy consists of, all of them, before any of them runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ABLATION", "SECONDS_A_STEP", "Trial", "plan"]

SECONDS_A_STEP = {"unet": 1.2, "paper": 0.35, "basic_unet": 1.4}
"""Of four hippocampi on one thread of an idle processor with native bf16: turns the minutes of a trial into steps."""

HIPPOCAMPUS: Mapping[str, Any] = {"depth": 10, "batch_size": 4, "patch_size": [40, 56, 40]}
"""The whole volume, padded or cut to the size of most of them."""
THICK: Mapping[str, Any] = {"depth": 10, "batch_size": 4, "patch_size": [40, 56, 16]}
SARCOMA: Mapping[str, Any] = {"depth": 10, "batch_size": 2, "patch_size": [64, 64, 48]}

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
    "without an average": {"ema_decay": 0},
    "without warm-up": {"warmup_steps": 0},
    "polynomial for cosine": {"schedule": "polynomial"},
    "without weight decay": {"weight_decay": 0},
    "without clipping": {"clip_norm": 0},
    "the paper's recipe at 0.001": {"recipe": "paper", "learning_rate": 0.001},
}
"""Each part of the modern recipe left out, and all of them."""


@dataclass(frozen=True)
class Trial:
    """A training, and what it is scored on.

    Attributes:
        group: what it belongs to.
        name: of its row, the same for all seeds and folds.
        network: a key of ``NETWORKS``.
        data: name of the data set, see :mod:`scripts.accuracy.data`.
        fold: of that set's splits_final.json; its validation cases are what is scored.
        minutes: of training on one thread, as ``SECONDS_A_STEP`` has it.
        validations: at equal distances, the last one at the end, whose network is kept: none is chosen by its score.
        seed: of the training.
        options: of lung_segmentation.
    """

    group: str
    name: str
    network: str
    data: str
    fold: int
    minutes: float
    seed: int = 0
    validations: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cell(self) -> str:
        """Name of the folder of the training."""
        words = f"{self.group} {self.name} fold {self.fold} seed {self.seed}"
        return "_".join(words.replace("'", "").replace(".", "").split())

    def epochs(self, cases: int) -> int:
        """Return how many passes over so many training cases the minutes are, a multiple of the validations."""
        steps = 60 * self.minutes / SECONDS_A_STEP[self.network]
        an_epoch = -(-cases // int(self.options["batch_size"]))
        return max(1, round(steps / an_epoch / self.validations)) * self.validations


def plan() -> Iterator[Trial]:
    """Yield all trials; what settles the defaults comes first, and none of it sees a test case."""
    for name, changes in ABLATION.items():
        for seed in (0, 1):
            yield _hippocampus("ablation", name, "unet", "chosen on", 10, seed, **changes)
    for network, minutes, seeds, validations in (
        ("unet", 60, (0, 1, 2), 12),
        ("paper", 60, (0,), 12),
        ("basic_unet", 60, (0,), 12),
        *((network, 20, (0, 1, 2), 4) for network in NETWORKS),
    ):
        for seed in seeds:
            yield _hippocampus(f"{minutes} minutes", network, network, "test", minutes, seed, validations)
    for cases in (8, 16):
        for rate in (0.01, 0.001):
            for seed in (0, 1, 2):
                name = f"{cases} cases at {rate}"
                yield _hippocampus("few cases", name, "unet", f"{cases} cases", 5, seed, learning_rate=rate)
    for fold in range(5):
        yield Trial("folds", "unet", "unet", "hippocampus in folds", fold, 20, fold, 1, HIPPOCAMPUS)
    thick: dict[str, Mapping[str, Any]] = {
        "unet, strides of the plan": {"strides": [[2, 2, 1], [2, 2, 1], [2, 2, 2]]},
        "unet, strides of 8": {},
        "paper, strides of 8": {"decoder": "paper", "recipe": "paper"},
    }
    for name, changes in thick.items():
        yield Trial("thick slices", name, "unet", "thick", 0, 10, 0, 1, {**THICK, **changes})
    for modality in ("CT", "MR", "PET"):
        for fold in range(5):
            yield Trial("sarcoma", modality, "unet", f"Sarcoma{modality}", fold, 8, 0, 1, SARCOMA)


FOLDS = {"test": 0, "chosen on": 1, "8 cases": 2, "16 cases": 3}
"""Of the hippocampi: what each fold of their splits_final.json is for."""


def _hippocampus(
    group: str,
    name: str,
    network: str,
    split: str,
    minutes: float,
    seed: int,
    validations: int = 1,
    **changes: Any,
) -> Trial:
    options = {**HIPPOCAMPUS, **NETWORKS[network], **changes}
    return Trial(group, name, network, "hippocampus", FOLDS[split], minutes, seed, validations, options)
