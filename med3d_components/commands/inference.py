"""Apply a trained model to scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from med3d_components.commands.models import open_model, run_bundle

__all__ = ["classify", "segment"]


def segment(model: str, input: str, output: str, **options: Any) -> Path:  # noqa: A002  as it is typed
    """Segment scans with a trained model, by the inference of its bundle.

    A scan that cannot be read or segmented does not stop the others; the table says why it has no mask. The same
    command, given again, does what is missing.

    Args:
        model: folder of model.pt or of a bundle, or the zip of a bundle with weights. The configs of a zip are code:
            take only zips from people whom you would let run a program on your machine.
        input: a volume (NIfTI, NRRD, MetaImage), the folder of a DICOM series, or a folder of these at any depth.
        output: folder for masks, pictures and scans.csv.
        options: of the bundle's inference, such as --overlap 0.5.

    Returns:
        The table, scans.csv, with a row per scan.

    Raises:
        FileNotFoundError: if there is no such model or input.
        ValueError: if the model is no segmentation, or an option is not one of its bundle.
        IncompleteError: if a scan has no mask.
    """
    return _infer(model, input, output, options, "segment") / "scans.csv"


def classify(model: str, input: str, output: str, **options: Any) -> Path:  # noqa: A002  as it is typed
    """Classify nodules with a trained model, by the inference of its bundle.

    Args:
        model: as for segment.
        input: a folder with a dataset.json that lists nodules; or volumes, each the cube of one nodule.
        output: folder for the tables.
        options: of the bundle's inference, such as --batch_size 1.

    Returns:
        The table, predictions.csv, with a row per nodule.

    Raises:
        FileNotFoundError: if there is no such model or input.
        ValueError: if the model is no classification, or an option is not one of its bundle.
        IncompleteError: if a nodule has no prediction.
    """
    return _infer(model, input, output, options, "classify") / "predictions.csv"


VERBS = {"classification": "classify", "restoration": ""}
"""Task of a network to the command that it answers; all others segment."""


def _infer(model: str, source: str, output: str, options: dict[str, Any], command: str) -> Path:
    with open_model(model) as found:
        right = VERBS.get(found.settings["network"]["task"], "segment")
        if right != command:
            hint = f"; use the command {right}" if right else ", which answers neither"
            raise ValueError(f"{model} is a model of {found.settings['bundle']}{hint}.")
        places = {"dataset_dir": source, "ckpt_dir": str(found.ckpt_dir), "output_dir": output}
        run_bundle("inference", found.bundle, ["inference"], {**options, **places})
    return Path(output)
