"""The code of ``scripts/cross_validate.py``: trainings of all folds, and their scores together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from med3d_components.data import NoduleDatalist
from med3d_components.handlers.drawing import draw_roc
from med3d_components.metrics import BinaryClassification, SizeBaseline
from med3d_components.utils import write_json, write_table

__all__ = ["cross_validate"]

BUNDLE = Path(__file__).parents[2] / "bundles" / "lung_nodule_ct_classification"
LABELS = ("threshold", "at_threshold", "readers")  # options that decide the labels


def cross_validate(dataset_dir: str, out: str, folds: int = 5, seed: int = 0, **options: Any) -> None:
    """Train and score every fold, and write ``cases.csv``, ``scores.json`` and ``roc.png``.

    Args:
        dataset_dir: folder with a dataset.json that lists nodules.
        out: folder for the results; that of fold 0 is OUT/fold_0.
        folds: number of folds.
        seed: of folds and trainings.
        options: of the bundle's training, such as --depth 10.

    Raises:
        FileExistsError: if ``out`` holds results already.
        ValueError: if the dataset does not fit.
    """
    folder = Path(out)
    if (folder / "scores.json").exists():
        raise FileExistsError(f"{folder} holds results already; choose another folder.")
    labels = {name: options[name] for name in LABELS if name in options}
    datalists = [NoduleDatalist(dataset_dir, **labels, folds=folds, fold=k, seed=seed) for k in range(folds)]
    network, fold_aucs = BinaryClassification(datalists[0].classes), []
    for fold, datalist in enumerate(datalists):
        target = folder / f"fold_{fold}"
        _train(target, {"dataset_dir": dataset_dir, "folds": folds, "fold": fold, "seed": seed, **options})
        one = BinaryClassification(datalist.classes)
        for item, probability in _predictions(target / "eval" / "cases.csv", datalist).values():
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


def _train(target: Path, options: Mapping[str, Any]) -> None:
    """Run the bundle's training in a process of its own, with one validation after the last epoch."""
    config = BUNDLE / "configs" / "train.json"
    places = {"run_dir": target, "val_interval": 10**6}
    arguments = [str(part) for key, value in {**places, **options}.items() for part in (f"--{key}", value)]
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(config), *arguments]
    if subprocess.run(command, check=False).returncode:
        raise ValueError(f"The training into {target} failed; its last line says why.")


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
