"""The code of ``scripts/cross_validate.py``: trainings of all folds, and their scores together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from med3d_components.utils import as_flag
from scripts.folds.classifier import report_auc
from scripts.folds.ensemble import write_ensemble
from scripts.folds.plan import CLASSIFIER, plan_folds
from scripts.folds.scores import report_dice
from scripts.study.cells import run_cells

__all__ = ["cross_validate"]


def cross_validate(
    dataset_dir: str,
    out: str,
    bundle: str = "lung_nodule_ct_classification",
    folds: int | None = None,
    seed: int = 0,
    ensemble: bool = False,
    **options: Any,
) -> None:
    """Train and score every fold, and write ``cases.csv``, ``scores.json`` and a picture.

    The same command goes on with what was interrupted, and trains no fold again that is finished.

    Args:
        dataset_dir: data of the bundle.
        out: folder for the results; that of fold 0 is OUT/fold_0.
        bundle: lung_segmentation, liver_ct_coarse_segmentation, liver_ct_fine_segmentation or
            lung_nodule_ct_classification.
        folds: number of folds; 5, or those of --split_file.
        seed: of folds and trainings.
        ensemble: write one model of all folds, too, into OUT/ensemble/models.
        options: of the bundle's training, such as --depth 10.

    Raises:
        FileExistsError: if ``out`` holds results of something else.
        ValueError: if bundle, data and options do not fit, or a training failed.
    """
    folder, together = Path(out), as_flag("ensemble", ensemble)
    if (folder / "scores.json").exists() and not (folder / "fold_0" / "cell.json").exists():
        raise FileExistsError(f"{folder} holds other results already; choose another folder.")
    cells = plan_folds(dataset_dir, bundle, folds, seed, options)
    if failures := run_cells(cells, folder, below=""):
        name, problem = next(iter(failures.items()))
        raise ValueError(
            f"{len(failures)} of {len(cells)} trainings are not finished; the same command goes on. {name}: {problem}"
        )
    done = [folder / cell.name for cell in cells]
    if bundle == CLASSIFIER:
        report_auc(folder, done, [cell.options for cell in cells])
    else:
        report_dice(folder, done)
    if together:
        model = write_ensemble([each / "models" for each in done], folder / "ensemble" / "models")
        print(f"One model of all folds: {model}")
