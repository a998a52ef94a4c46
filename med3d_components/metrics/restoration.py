"""How much of a distortion a network undoes, beside what needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.transforms import MedianSmooth
from torch.utils.data import Dataset

from med3d_components.metrics.cases import CaseMetric
from med3d_components.utils import check_finite

__all__ = ["Restoration"]

Errors = dict[str, float]


class Restoration(CaseMetric):
    """Share of the distortion that a restored image is free of: 1 - MSE(restored) / MSE(distorted).

    1 for the original, 0 for the distorted image as it came, below 0 for what is further away. The mean squared errors
    are over all voxels of all cases. The metric also writes "val_mse" and "val_mse/unchanged" into
    ``engine.state.metrics``, and with ``training`` those of two more baselines: "val_mse/median filter" (3x3x3) and
    "val_mse/mean image" (the average of the training originals). A row per case, of the same names, goes into
    ``engine.state.metric_details[<name of the metric>]``.

    The items of ``engine.state.output`` hold "pred" (restored), "image" (distorted) and "label" (original), of equal
    shape (1, H, W, D). Several items may be of one case.

    Args:
        training: prepared training items with "label", one or a list of them per index, for the mean image,
            which there is not without any.

    Example:
        >>> metric = Restoration()
        >>> original = torch.zeros(1, 4, 4, 4)
        >>> metric.update("case 1", {"pred": original + 0.1, "image": original + 0.2, "label": original})
        >>> round(metric.compute(), 3)
        0.75
    """

    def __init__(self, training: Dataset[Any] | Sequence[Any] | None = None) -> None:
        self.training = training
        self.mean_image: torch.Tensor | None = None
        self.median = MedianSmooth(radius=1)
        super().__init__()

    def attach(self, engine: Engine, name: str, *args: Any, **kwargs: Any) -> None:
        """Average the training originals when the evaluator starts, if they are given; then score its cases."""
        if self.training is not None:
            engine.add_event_handler(Events.STARTED, self.fit)
        super().attach(engine, name, *args, **kwargs)

    def fit(self) -> None:
        """Average the training originals."""
        total, count = torch.zeros(()), 0
        for index in range(len(self.training)):  # type: ignore[arg-type]
            items = self.training[index]  # type: ignore[index]
            for item in items if isinstance(items, list) else [items]:
                total, count = total + torch.as_tensor(item["label"]).cpu(), count + 1
        self.mean_image = total / count if count else None

    def update(self, case: str, output: Mapping[str, torch.Tensor]) -> None:
        """Score one item of a case.

        Args:
            case: its name.
            output: "pred", "image" and "label", of shape (1, H, W, D).

        Raises:
            ValueError: if one of them holds NaN or infinity, which would leave no case a score.
        """
        restored, distorted, original = (torch.as_tensor(output[key]).cpu() for key in ("pred", "image", "label"))
        candidates = {"": restored, "/unchanged": distorted}
        if self.training is not None:
            candidates["/median filter"] = torch.as_tensor(self.median(distorted))
        if self.mean_image is not None:
            candidates["/mean image"] = self.mean_image
        sums = self.details.setdefault(case, {"voxels": 0.0})
        sums["voxels"] += original.numel()
        for name, candidate in candidates.items():
            error = float((candidate.double() - original.double()).square().sum())
            check_finite(f"The mean squared error{name.replace('/', ', ')} of {case}", error)
            sums[f"val_mse{name}"] = sums.get(f"val_mse{name}", 0.0) + error

    def add(self, item: Mapping[str, Any], output: Mapping[str, torch.Tensor]) -> None:
        """Score an item's output."""
        self.update(item["case"], output)

    def score(self) -> float:
        """Return the share over all cases."""
        errors = self.summary()
        return 1 - errors["val_mse"] / errors["val_mse/unchanged"]

    def summary(self) -> Errors:
        """Return the mean squared errors over all cases."""
        names = next(iter(self.details.values()))
        return _mean({name: sum(sums[name] for sums in self.details.values()) for name in names})

    def row(self, case: str, detail: Errors) -> dict[str, Any]:
        """Return "case" and its mean squared errors."""
        return {"case": case, **_mean(detail)}


def _mean(sums: Errors) -> Errors:
    return {name: error / sums["voxels"] for name, error in sums.items() if name != "voxels"}
