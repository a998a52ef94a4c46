"""Scores of all nodules of a cross-validated classifier, each by the network that never saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from med3d_components.data import NoduleDatalist
from med3d_components.handlers.drawing import draw_roc
from med3d_components.metrics import BinaryClassification, SizeBaseline
from med3d_components.utils import write_json, write_table

__all__ = ["report_auc"]

OF_THE_DATA = ("dataset_dir", "threshold", "at_threshold", "readers", "folds", "fold", "train_share")
"""Options that decide labels and folds."""


def report_auc(folder: Path, folds: Sequence[Path], options: Sequence[Mapping[str, Any]]) -> None:
    """Write ``cases.csv``, ``scores.json`` and ``roc.png``, and print the scores.

    Args:
        folder: to write to.
        folds: folders of the trainings, in their order.
        options: of each training.
    """
    datalists = [_datalist(each) for each in options]
    network, fold_aucs = BinaryClassification(datalists[0].classes), []
    for fold, datalist in zip(folds, datalists, strict=True):
        one = BinaryClassification(datalist.classes)
        for item, probability in _predictions(fold / "eval" / "cases.csv", datalist).values():
            network.update(item, item["label"], probability)
            one.update(item, item["label"], probability)
        fold_aucs.append(one.compute())
    scores = {"network": {**_score(network), "auc of each fold": fold_aucs}}
    if all(datalist.has_masks for datalist in datalists):
        scores["size alone"] = _score(_size_alone(datalists))
    write_table(folder / "cases.csv", list(network.details.values()))
    write_json(folder / "scores.json", scores)
    interval = (scores["network"]["low"], scores["network"]["high"])
    draw_roc(folder / "roc.png", list(network.details.values()), "Cross-validated AUC", interval, network.classes)
    for name, score in scores.items():
        print(f"{name:<12} AUC {score['auc']:.3f} ({score['low']:.3f} to {score['high']:.3f}), ", end="")
        print(", ".join(f"{part} {score[part]:.3f}" for part in ("accuracy", "sensitivity", "specificity")))


def _datalist(options: Mapping[str, Any]) -> NoduleDatalist:
    """Return what a training has trained and validated on."""
    given = {name: options[name] for name in OF_THE_DATA if name in options}
    return NoduleDatalist(**given, seed=options.get("split_seed", options["seed"]))


def _predictions(path: Path, datalist: NoduleDatalist) -> dict[str, tuple[dict[str, Any], float]]:
    """Return case name to item and predicted probability, for the validation items of a fold."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    probabilities = dict(zip(table["case"], table["probability"].astype(float), strict=True))
    return {item["case"]: (item, probabilities[item["case"]]) for item in datalist.validation}


def _size_alone(datalists: list[NoduleDatalist]) -> BinaryClassification:
    """Score all nodules by their size, each with a regression that never saw it."""
    pooled = BinaryClassification(datalists[0].classes)
    for datalist in datalists:
        baseline = SizeBaseline(datalist.classes, datalist.training, datalist.validation)
        baseline.fit()
        for item in datalist.validation:
            pooled.update(item, item["label"], baseline.probabilities[item["case"]])
    return pooled


def _score(metric: BinaryClassification) -> dict[str, Any]:
    return {"auc": metric.compute(), **metric.summary(), "nodules": len(metric.details)}
