"""A MONAI Label app that serves the Med3D bundles in its folder ``model``. Research software, not for clinical use."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monailabel
from fastapi import HTTPException
from lib.bundles import find_bundles, is_trained
from lib.infer import infer_task
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

logger = logging.getLogger(__name__)


class Med3DApp(MONAILabelApp):
    """Serves what lies on disk and asks no zoo.

    Args:
        app_dir: folder of this file.
        studies: folder or address of the scans.
        conf: ``models``, names joined by commas, chooses among the bundles.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        try:
            self.bundles = find_bundles(Path(app_dir, "model"), conf.get("models"))
        except (ValueError, OSError) as error:
            _stop(error)
        # Every bundle carries the same package; it is imported once, so it must be found for good.
        sys.path.insert(0, str(next(iter(self.bundles.values()))))
        self._served: dict[str, int] = {}
        super().__init__(
            app_dir,
            studies,
            conf,
            name=f"Med3D bundles ({monailabel.__version__})",
            description="Networks pre-trained as in Med3D and Models Genesis. Research software, not for clinical use.",
            version=monailabel.__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return the tasks of the bundles with weights."""
        self._infers: dict[str, InferTask] = {}
        self._update_infers()
        for name in self.bundles.keys() - self._infers.keys():
            logger.warning("%s", _untrained(name))
        return self._infers

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return the tasks of the bundles that learn from masks."""
        from lib.train import SegmentationTrainTask  # the package is found by now

        chosen = {name: bundle for name, bundle in self.bundles.items() if "segmentation" in name}
        return {name: SegmentationTrainTask(bundle, self.conf) for name, bundle in chosen.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return how the next scan to label is chosen."""
        return {"random": Random(), "first": First()}

    def info(self) -> dict[str, Any]:
        """Return what clients ask first."""
        self._update_infers()
        return dict(super().info())

    def infer(self, request: Mapping[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Answer a request; a foreseeable mistake is answered with its one line."""
        self._update_infers()
        model, image = str(request.get("model")), request.get("image")
        self._check_known(model, self.bundles)
        if model not in self._infers:
            raise HTTPException(409, _untrained(model))
        store = datastore or self.datastore()
        if isinstance(image, str) and not os.path.exists(image) and not store.get_image_uri(image):
            raise HTTPException(404, f"There is no image {image}; GET /datastore/ lists those there are.")
        try:
            return dict(super().infer(request, datastore))
        except (ValueError, OSError) as error:
            from med3d_components.utils.causes import root_line  # the package is found by now

            raise HTTPException(400, root_line(error)) from error

    def bundle_path(self, model: str | None) -> str | None:
        """Return the folder of a bundle to train, which the server asks for before it starts a training."""
        if model is not None:
            self._check_known(model, self._trainers)
        return super().bundle_path(model)

    def _update_infers(self) -> None:
        """Take up what was trained since: a network is built from the settings beside its weights."""
        for name, bundle in self.bundles.items():
            changed = (bundle / "models" / "settings.json").stat().st_mtime_ns if is_trained(bundle) else 0
            if changed > self._served.get(name, 0):
                self._infers[name] = infer_task(bundle, self.conf)
                self._served[name] = changed

    def _check_known(self, model: str, known: Mapping[str, Any]) -> None:
        if model not in known:
            raise HTTPException(404, f"There is no {model} here; there are {', '.join(known)}.")


def _untrained(name: str) -> str:
    return f"{name} has no weights, so it answers nothing yet: label scans and train it, or pack it with --weights."


def _stop(error: Exception) -> None:
    """End the server with one line; the traceback that it would print of any exception says no more."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)
