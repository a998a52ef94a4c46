"""The answers of a bundle: a mask on the geometry of the scan, or a score per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.tasks.infer.bundle import BundleInferTask

from lib.bundles import class_names

__all__ = ["ClassificationTask", "SegmentationTask", "infer_task"]


class SegmentationTask(BundleInferTask):
    """MONAI Label's task, with the labels that the weights know and all of their values or an error.

    Args:
        bundle: folder of a bundle with weights.
        conf: of the app.
    """

    def __init__(self, bundle: Path, conf: dict[str, str]) -> None:
        super().__init__(str(bundle), conf, load_strict=True)
        self.classes = class_names(bundle)
        self.labels = {name.lower(): i for i, name in enumerate(self.classes) if name.lower() != "background"}

    def writer(self, data: Mapping[str, Any], extension: str | None = None, dtype: Any = None) -> tuple[Any, Any]:
        """Write the mask, as whole numbers."""
        mask: tuple[Any, Any] = super().writer(data, extension, dtype or "uint8")
        return mask


class ClassificationTask(SegmentationTask):
    """Answers with scores: there is no mask, so nothing to restore to the scan's geometry and no file to write."""

    def post_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """Return the bundle's postprocessing, which MONAI Label would only take as a list."""
        return [self.bundle_config.get_parsed_content("postprocessing")]

    def writer(self, data: Mapping[str, Any], extension: str | None = None, dtype: Any = None) -> tuple[None, Any]:
        """Return no file, and the scores as MONAI Label's clients read those of a classification."""
        scores = zip(self.classes, data[self.output_label_key].tolist(), strict=True)
        return None, {"prediction": [{"idx": i, "label": name, "score": p} for i, (name, p) in enumerate(scores)]}


def infer_task(bundle: Path, conf: dict[str, str]) -> SegmentationTask:
    """Return the task of a bundle, by the word in its name."""
    kind = ClassificationTask if "classification" in bundle.name else SegmentationTask
    return kind(bundle, conf)
