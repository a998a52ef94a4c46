"""Train a bundle, score what it has learnt, and repeat a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from med3d_components.commands.models import find_bundle, open_model, run_bundle
from med3d_components.planning.overlay import read_plan

__all__ = ["evaluate", "replay", "train"]


def train(
    bundle: str,
    dataset_dir: str,
    run_dir: str | None = None,
    configs: str = "train",
    plan: str | None = None,
    **options: Any,
) -> None:
    """Train a bundle.

    Args:
        bundle: its name or its folder.
        dataset_dir: folder of the training data.
        run_dir: folder for models/, checkpoints/ and eval/; by default the bundle's own.
        configs: names of its configs, joined by commas: "train,smoke" for a run of seconds.
        plan: file of options that the command plan has written; those that are typed come before it.
        options: of the bundle's training, such as --depth 10.

    Raises:
        FileNotFoundError: if there is no such bundle, data or plan.
        ValueError: if the data do not fit, or an option is not one of the bundle.
    """
    planned = read_plan(plan) if plan else {}
    places = {"dataset_dir": dataset_dir, "run_dir": run_dir}
    run_bundle("training", find_bundle(bundle), configs.split(","), {**planned, **options, **places})


def evaluate(model: str, dataset_dir: str, output_dir: str | None = None, **options: Any) -> Path:
    """Score a trained model on its validation cases, beside a baseline that never looks at an image.

    The model knows its cases by their content, in whichever folder they lie and under whichever names. Those that it,
    or a model that it started from, was trained on are scored by --cases all alone; cases.csv tells the set of each.
    A page, evaluation.html, shows all scores, tables and pictures.

    Args:
        model: folder of model.pt or of a bundle, or the zip of a bundle with weights, whose configs are code.
        dataset_dir: folder of the data; of other data than those of the training, --cases unseen scores all cases.
        output_dir: folder for tables and pictures; by default eval/evaluation beside the model's; needed for a zip.
        options: --cases validation, unseen or all, and those of the bundle's training, such as --num_workers 0.

    Returns:
        The scores, evaluation.json.

    Raises:
        FileNotFoundError: if there is no such model or data.
        ValueError: if the data do not fit, or an option is not one of the bundle.
    """
    from med3d_components.report.evaluation import write_evaluation_page  # takes seconds

    if output_dir is None and Path(model).is_file():
        raise ValueError(f"{model} is a zip, which results cannot go into; name a folder by --output_dir.")
    with open_model(model) as found:
        folder = Path(output_dir) if output_dir else found.ckpt_dir.parent / "eval" / "evaluation"
        places = {"dataset_dir": dataset_dir, "ckpt_dir": str(found.ckpt_dir), "output_dir": str(folder)}
        run_bundle("evaluating", found.bundle, ["train", "evaluate"], {**options, **places})
    write_evaluation_page(folder)
    return folder / "evaluation.json"


def replay(
    record: str,
    dataset_dir: str | None = None,
    pretrained_weights: str | None = None,
    coarse_checkpoint: str | None = None,
    bundle: str | None = None,
) -> Path:
    """Train again as a run.json says, in a new folder replay_N beside the model's, and compare all scores.

    Scores are the same to the last bit on the same processor with the same versions and threads; this command ends
    with 1 where one differs, after it has said what else does. What is recorded is taken as data: nothing in it is
    evaluated, and results go into replay_N alone.

    Args:
        record: the run.json, beside model.pt.
        dataset_dir: folder of the data, by default where they were.
        pretrained_weights: what the training started from, by default where they were.
        coarse_checkpoint: model.pt of the first of two networks, by default where it was.
        bundle: folder of the bundle, if it is none of those here.

    Returns:
        The folder of the replay.

    Raises:
        FileNotFoundError: if there is no such record, bundle or data.
        ValueError: if the record is damaged, asks for what no option allows, or is of other data or weights; if the
            training ends with an error, or a score differs.
    """
    from med3d_components.commands.repeating import repeat  # takes seconds

    places = {
        "dataset_dir": dataset_dir,
        "pretrained_weights": pretrained_weights,
        "coarse_checkpoint": coarse_checkpoint,
    }
    return repeat(record, bundle, places)
