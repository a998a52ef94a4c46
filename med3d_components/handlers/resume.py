"""What a resumed training takes of the run before: which changes, which best score, and where that stands."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from med3d_components.utils.options import OPTIONS
from med3d_components.utils.resolved import changed_ids

__all__ = ["find_best", "find_changes", "find_place"]

logger = logging.getLogger(__name__)

OF_THE_DATA = ("trained_on", "volumes_ml")
"""Settings that may change in a resume: the split tells the cases again in a folder that was renamed or corrected."""


def find_changes(
    path: Path,
    state: Mapping[str, Any],
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    config: Mapping[str, str],
) -> dict[str, str]:
    """Refuse what a resume cannot change, and return what it takes.

    Args:
        path: of the checkpoint, for messages.
        state: its content.
        settings: what inference must know, as it is now.
        options: of the run, as they are now; see :class:`Option` for those that a resume takes.
        config: digests of all else in the config.

    Returns:
        What has changed, each with a line that says so.

    Raises:
        ValueError: if the checkpoint was made with options or settings that a resume cannot change.

    Example:
        >>> before = {"options": {"epochs": 2}, "settings": {}, "epoch": 2}
        >>> find_changes(Path("last.pt"), before, {}, {"epochs": 3}, {})
        {'epochs': 'epochs was 2 and is now 3: taken from epoch 3 on.'}
    """
    before = state.get("options", {})
    if not before:
        logger.info("%s does not tell the options of its run, so changes of them are not seen.", path)
    changed = {
        name: f"{name} was {before[name]} and is now {value}"
        for name, value in options.items()
        if name in before and before[name] != value
    }
    refused = [text for name, text in changed.items() if OPTIONS[name].resume == "refused"]
    # What follows from an option that is taken is no reason to refuse.
    refused += [
        f"{key} is another one"
        for key, value in settings.items()
        if not refused and key not in (*changed, *OF_THE_DATA) and state["settings"].get(key) != value
    ]
    if refused:
        raise ValueError(
            f"{path} was made with other settings: {'; '.join(refused)}. "
            "Resume with the values of that run, or start a new one without --resume."
        )
    step = state.get("step", 0)
    taken = f": taken from epoch {state['epoch'] + (2 if step and step == state.get('steps') else 1)} on."
    changes = {name: text + taken for name, text in changed.items() if OPTIONS[name].resume == "taken"}
    written = state.get("config", {})
    if written and config and (ids := changed_ids(written, config)):
        names = ", ".join(ids)
        changes[names] = f"The config has changed beyond its options, in {names}{taken}"
    return changes


def find_best(best: Mapping[str, Any], model: Path, encoder: Path) -> dict[str, Any]:
    """Return the best score of a run and its epoch, of which ``model.pt`` may know more.

    Args:
        best: as ``last.pt`` has it.
        model: ``model.pt``.
        encoder: ``encoder.pt``, written with it.

    Returns:
        The score of ``model.pt`` where that was written after ``last.pt``: what is repeated must not replace a better
        model. No score where ``model.pt`` is another network than the best, since the best is lost then.
    """
    content = torch.load(encoder, map_location="cpu", weights_only=True, mmap=True)
    # Without "kept" it is of a version that kept nothing but the best.
    kept: dict[str, Any] = content.get("kept", content.get("best", best))
    if kept["score"] > best["score"]:
        return dict(kept)
    if best["epoch"] in (0, kept["epoch"]):
        return dict(best)
    logger.info(
        "%s is the network of epoch %d, not the best, that of epoch %d, since the run kept its last one; "
        "the best is that of the epochs from now on.", model, kept["epoch"], best["epoch"],
    )  # fmt: skip
    return {"score": -math.inf, "epoch": 0}


def find_place(state: Mapping[str, Any], steps: int) -> tuple[int, int, list[float], int]:
    """Return where a run stands whose epochs may have had another number of steps.

    Args:
        state: content of ``last.pt``.
        steps: of an epoch, as it is now.

    Returns:
        Epochs that were completed, steps of the next one, their losses, and steps of the whole training. An epoch that
        stands in its middle begins anew where its number of steps has changed.

    Example:
        >>> find_place({"epoch": 3, "step": 4, "steps": 4, "losses": [0.1, 0.2, 0.1, 0.1], "made": 16}, 8)
        (3, 8, [0.1, 0.2, 0.1, 0.1], 16)
    """
    epoch, step, losses = state["epoch"], state.get("step", 0), state.get("losses", [])
    before = state.get("steps", steps)
    made = state.get("made", epoch * before + step)
    if step and before != steps:
        if step == before:
            step = steps
        else:
            logger.info(
                "An epoch had %d steps and has %d now: epoch %d, of which %d were made, begins anew with the "
                "weights as they are.", before, steps, epoch + 1, step,
            )  # fmt: skip
            step, losses = 0, []
    return epoch, step, losses, made
