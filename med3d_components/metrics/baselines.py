"""Scores of predictors that need no network: a network says little unless it beats them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms.utils import get_largest_connected_component_mask
from torch.nn import functional as F
from torch.utils.data import Dataset

from med3d_components.metrics.cases import UNNAMED, Baseline
from med3d_components.metrics.dice import DomainDice

__all__ = ["AverageLabelDice", "IntensityWindowDice"]


class BaselineDice(Baseline, DomainDice):
    """Dice of a predictor that is fitted to the training items when an evaluation starts.

    Args:
        classes: class names, background first, or domain name to class names.
        training: prepared training items.
    """

    def __init__(
        self, classes: Mapping[str, Sequence[str]] | Sequence[str], training: Dataset[Any] | Sequence[Any]
    ) -> None:
        super().__init__(classes)
        self.training = training

    @abstractmethod
    def predict(self, domain: str, image: torch.Tensor) -> torch.Tensor:
        """Return the label map (1, H, W, D) of an image (1, H, W, D) of a domain."""

    @abstractmethod
    def knows(self, domain: str) -> bool:
        """Tell whether there were training items of a domain."""

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Score the prediction for the output's "image", in a domain with training items."""
        domain, image = item.get("domain", UNNAMED), torch.as_tensor(output["image"]).cpu()
        if not self.knows(domain):
            return
        self.update(domain, item["case"], self.predict(domain, image), output["label"].cpu())


class AverageLabelDice(BaselineDice):
    """Dice of a predictor that never looks at the image: the average label of a domain's training volumes.

    Volumes are stretched to one size and averaged class by class. Where data are cropped around their target, this
    baseline is high, and a network's score says little unless it is higher.

    Args:
        classes: class names, background first, or domain name to class names.
        training: prepared training items with "label" and, if there are several, "domain", at the
            same spacing as the validation's.

    Example:
        >>> item = {"domain": "liver", "label": torch.ones(1, 4, 4, 4)}
        >>> baseline = AverageLabelDice({"liver": ["background", "liver"]}, [item])
        >>> baseline.fit()
        >>> baseline.predict("liver", torch.zeros(1, 4, 4, 4)).unique()
        tensor([1])
    """

    def __init__(
        self, classes: Mapping[str, Sequence[str]] | Sequence[str], training: Dataset[Any] | Sequence[Any]
    ) -> None:
        super().__init__(classes, training)
        self.average: dict[str, torch.Tensor] = {}

    def fit(self) -> None:
        """Average the training labels of each domain, on a grid of at most 96 voxels along each axis."""
        self.average = {}
        for index in range(len(self.training)):
            item = self.training[index]
            domain, label = item.get("domain", UNNAMED), torch.as_tensor(item["label"]).cpu()
            one_hot = torch.cat([label == value for value in range(len(self.classes[domain]))])[None].float()
            known = self.average.get(domain)
            size = [min(96, length) for length in label.shape[1:]] if known is None else known.shape[2:]
            stretched = _stretch(one_hot, size)
            self.average[domain] = stretched if known is None else known + stretched

    def knows(self, domain: str) -> bool:
        """Tell whether there were training items of a domain."""
        return domain in self.average

    def predict(self, domain: str, image: torch.Tensor) -> torch.Tensor:
        """Return the average label map of a domain, (1, H, W, D), for an image of that size, without a look at it."""
        return _stretch(self.average[domain], image.shape[1:])[0].argmax(0, keepdim=True)


class IntensityWindowDice(BaselineDice):
    """Dice of a window of intensities and the largest connected component in it.

    The window reaches two standard deviations either way from the mean of the training images' foreground, all classes
    together; its component is predicted to be the first class. It tells how far one gets by brightness alone, that of
    the first channel if there are several.

    Args:
        classes: class names, background first, or domain name to class names.
        training: prepared training items with "image", "label" and, if there are several, "domain"; the images'
            intensities on the same scale as the validation's.

    Example:
        >>> image = torch.rand(1, 4, 4, 4)
        >>> baseline = IntensityWindowDice(["background", "liver"], [{"image": image, "label": image > 0.5}])
        >>> baseline.fit()
        >>> baseline.predict("-", image).shape
        torch.Size([1, 4, 4, 4])
    """

    def __init__(
        self, classes: Mapping[str, Sequence[str]] | Sequence[str], training: Dataset[Any] | Sequence[Any]
    ) -> None:
        super().__init__(classes, training)
        self.windows: dict[str, tuple[float, float]] = {}

    def fit(self) -> None:
        """Find the window of each domain."""
        sums: dict[str, torch.Tensor] = {}
        for index in range(len(self.training)):
            item = self.training[index]
            image, label = (torch.as_tensor(item[key]).cpu() for key in ("image", "label"))
            voxels = image[:1][label > 0].double()
            powers = torch.stack([voxels**0, voxels, voxels**2]).sum(1)
            domain = item.get("domain", UNNAMED)
            sums[domain] = sums.get(domain, torch.zeros(3, dtype=torch.float64)) + powers
        for domain, (count, total, squares) in sums.items():
            mean = float(total / count)
            deviation = max(float(squares / count) - mean**2, 0.0) ** 0.5
            self.windows[domain] = (mean - 2 * deviation, mean + 2 * deviation)

    def knows(self, domain: str) -> bool:
        """Tell whether there were training items of a domain."""
        return domain in self.windows

    def predict(self, domain: str, image: torch.Tensor) -> torch.Tensor:
        """Return the label map (1, H, W, D) of an image (1, H, W, D) of a domain."""
        low, high = self.windows[domain]
        inside = (image[0] >= low) & (image[0] <= high)
        return get_largest_connected_component_mask(inside)[None].to(torch.uint8)


def _stretch(volume: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.interpolate(volume, size=tuple(size), mode="trilinear", align_corners=False)
