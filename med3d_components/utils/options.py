"""Every option of every bundle, once: its type, its range, its choices.

The help of the command line, the check of what was typed, MONAI Label and the tables of the bundles' READMEs read them
here. What an option means is written next to it in the bundle's config, as ``_desc_<name>``. This module needs neither
torch nor MONAI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["OPTIONS", "PATHS", "RENAMED", "Option", "check_value", "has_expression", "is_expression"]

NULLS = ("null", "none")
"""What people type for a JSON null, in any case; Fire hands ``null`` over as text."""

PATHS = ("path", "weights")
"""Kinds that are taken as they were typed."""

TABLES = {"widths": (2, math.inf), "strides": (3, 2)}
"""Kinds that are three rows: how many integers a row has, and the greatest of them."""

WORDS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class Option:
    """What values an option takes.

    Attributes:
        kind: flag, integer, number, choice, text, path, weights (path or name), device, or one of ``TABLES``.
        least: smallest value, or each one's of a list.
        most: greatest value.
        above: the smallest value is itself excluded.
        below: the greatest value is itself excluded.
        choices: of a choice; of a number, words that it may be instead.
        count: how many values a list has, 0 for any number of them; None for one value that is not a list.
        single: whether one value may stand for a list of equal ones, which it becomes.
        rising: the two values of the list must rise.
        null: whether null is allowed, too.
        resume: what becomes of another value in a run that goes on: it is "taken", "refused", or "free", which nobody
            need be told of.
    """

    kind: str
    least: float | None = None
    most: float | None = None
    above: bool = False
    below: bool = False
    choices: tuple[Any, ...] = ()
    count: int | None = None
    single: bool = False
    rising: bool = False
    null: bool = False
    resume: str = "refused"

    def describe(self) -> str:
        """Say in words what is allowed.

        Example:
            >>> Option("integer", 1, count=3).describe()
            'three integers, each 1 or more'
            >>> Option("number", 0, 1, above=True, null=True).describe()
            'a number above 0 and at most 1, or null'
        """
        return self._words() + (", or null" if self.null else "")

    def _words(self) -> str:
        if self.kind == "flag":
            return "true or false"
        if self.kind == "choice":
            return _join(self.choices) if self.count is None else f"names among {_join(self.choices, 'and')}"
        if self.kind not in ("integer", "number"):
            texts = {"text": "a text", "device": "a device, such as cpu, cuda or cuda:1"}
            texts |= {"path": "a path", "weights": "a name of published weights, or a path"}
            texts |= {"widths": "three pairs of integers of 1 or more, such as [[256,128],[128,64],[64,32]]"}
            texts |= {"strides": "three lists of three numbers, each 1 or 2, such as [[2,2,1],[2,2,2],[2,2,2]]"}
            return texts[self.kind] if self.count is None else "names, joined by commas"
        name, limits = self.kind, self._limits()
        if self.count is None:
            words = f"{', '.join(self.choices)}, or " if self.choices else ""
            return f"{words}{'an' if name == 'integer' else 'a'} {name}{limits}"
        rising = ", the second above the first" if self.rising else ""
        number = f"{'one or ' * self.single}{WORDS.get(self.count, 'one or more')}"
        return f"{number} {name}s{', each' * bool(limits)}{limits.lstrip(',')}{rising}"

    def _limits(self) -> str:
        if self.least is None:
            return ""
        if self.most is None:
            return f" above {self.least}" if self.above else f", {self.least} or more"
        if not self.above and not self.below:
            return f" from {self.least} to {self.most}"
        low = f"above {self.least}" if self.above else f"of {self.least} or more"
        return f" {low} and {'below' if self.below else 'at most'} {self.most}"


def check_value(name: str, value: Any, option: Option | None = None) -> Any:
    """Return the value of an option as the configs use it.

    A text ``null`` becomes None, ``true`` and ``false`` in any case become flags, ``~`` in a path the home folder.

    Args:
        name: of the option.
        value: as a config holds it, or as Fire reads it from a command line.
        option: its entry in ``OPTIONS``, where that is known already.

    Raises:
        ValueError: for a value that is not allowed; it says what is.

    Example:
        >>> check_value("cache_dir", "null"), check_value("epochs", 20)
        (None, 20)
        >>> check_value("epochs", 0)
        Traceback (most recent call last):
        ...
        ValueError: epochs is 0, but must be an integer, 1 or more.
    """
    option = option or OPTIONS[name]
    if option.null and (value is None or (isinstance(value, str) and value.lower() in NULLS)):
        return None
    if option.kind in PATHS and "#" in str(value):
        raise ValueError(
            f"{name} is {value}, but MONAI's configs take # for part of an id; rename the folder, or give a link to it."
        )
    alone = option.count is None or (option.single and not isinstance(value, list | tuple))
    values = [value] if alone else _as_list(value, option)
    found = [_convert(each, option) for each in values]
    any_number = option.count == 0 and (bool(found) or option.kind != "integer")
    count_right = alone or any_number or (option.count or -1) == len(found)
    if not count_right or _WRONG in found or (option.rising and not found[0] < found[1]):
        raise ValueError(f"{name} is {_show(value)}, but must be {option.describe()}.")
    if option.single and alone:
        return found * int(option.count or 1)
    return found[0] if alone else found


def is_expression(value: Any) -> bool:
    """Tell whether a value of a config is computed when it is needed, so that nothing can be said of it before.

    Example:
        >>> is_expression("@seed"), is_expression({"_target_": "x"}), is_expression("resnet")
        (True, True, False)
    """
    return isinstance(value, dict) or (isinstance(value, str) and value[:1] in ("$", "@", "%"))


def has_expression(value: Any) -> bool:
    """Tell whether a value, or an entry of a list however deep, is an expression.

    Example:
        >>> has_expression([[2, 2, 1], ["$1"]]), has_expression([96, 96, 96])
        (True, False)
    """
    return any(map(has_expression, value)) if isinstance(value, list | tuple) else is_expression(value)


class _Wrong:
    """Stands for a value that is not allowed; it compares with none."""

    def __lt__(self, other: object) -> bool:
        return False


_WRONG = _Wrong()


def _convert(value: Any, option: Option) -> Any:
    if option.kind == "flag":
        return {"true": True, "false": False}.get(str(value).lower(), _WRONG)
    if option.kind in PATHS:
        usable = isinstance(value, str | Path) and str(value)
        # Of weights a word may stand before the path, as in kinetics:~/resnet_50.pth.
        layout, colon, path = str(value).rpartition(":")
        return layout + colon + str(Path(path).expanduser()) if usable else _WRONG
    if option.kind == "text":
        return value if isinstance(value, str) and value else _WRONG
    if option.kind in TABLES:
        return value if _is_table(value, *TABLES[option.kind]) else _WRONG
    if option.kind == "device":
        return value
    if value in option.choices and not isinstance(value, bool):
        return value
    is_number = isinstance(value, int if option.kind == "integer" else int | float) and not isinstance(value, bool)
    if option.kind == "choice" or not is_number or not math.isfinite(value):
        return _WRONG
    low = option.least is None or (value > option.least if option.above else value >= option.least)
    high = option.most is None or (value < option.most if option.below else value <= option.most)
    return value if low and high else _WRONG


def _as_list(value: Any, option: Option) -> Sequence[Any]:
    if isinstance(value, str) and option.kind in ("text", "choice"):
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return list(value) if isinstance(value, list | tuple) else [_WRONG]


def _is_table(value: Any, columns: int, most: float) -> bool:
    def is_row(row: Any) -> bool:
        return (
            isinstance(row, list | tuple)
            and len(row) == columns
            and all(type(n) is int and 1 <= n <= most for n in row)
        )

    return isinstance(value, list | tuple) and len(value) == 3 and all(map(is_row, value))


def _join(names: Sequence[Any], word: str = "or") -> str:
    *first, last = map(str, names)
    return f"{', '.join(first)} {word} {last}" if first else last


def _show(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


COUNT = Option("integer", 1)
WHOLE = Option("integer", 0)
FLAG = Option("flag")
PATH = Option("path")
MM = Option("number", 0, above=True, count=3)
DISTANCE = Option("number", 0)
PROBABILITY = Option("number", 0, 1)
SHARE = Option("number", 0, 1, above=True)
POSITIVE = Option("number", 0, above=True)
SEED = Option("integer", 0, 2**32 - 1)
INTERVAL = Option("number", count=2, rising=True)


def _taken(option: Option) -> Option:
    return replace(option, resume="taken")


def _free(option: Option) -> Option:
    return replace(option, resume="free")


OPTIONS = {
    # Where things are.
    "dataset_dir": _free(PATH),
    "output_dir": _free(PATH),
    "output_postfix": _free(Option("text")),
    "format": _free(Option("choice", choices=("nii.gz", "seg.nrrd", "dicom-seg", "rtstruct"), count=0)),
    "separate_classes": _free(FLAG),
    "probabilities": _free(FLAG),
    "run_dir": _free(PATH),
    "ckpt_dir": _free(PATH),
    "cache_dir": _free(Option("path", null=True)),
    "cache_gb": _free(POSITIVE),
    "coarse_checkpoint": Option("path", null=True),
    "resume": _free(FLAG),
    # The network.
    "pretrained_weights": Option("weights"),
    "architecture": Option("choice", choices=("resnet", "genesis")),
    "in_channels": COUNT,
    "depth": Option("choice", choices=(10, 18, 34, 50, 101, 152, 200)),
    "shortcut_type": Option("choice", choices=("A", "B"), null=True),
    "dilations": Option("integer", 1, count=2),
    "preactivation": FLAG,
    "strides": Option("strides"),
    "decoder": Option("choice", choices=("paper", "unet")),
    "deep_supervision": FLAG,
    "widths": Option("widths"),
    "rates": Option("integer", 1, count=0),
    "scaled": FLAG,
    "checkpointing": _free(FLAG),
    "dropout": _taken(Option("number", 0, 1, below=True)),
    "frozen_stages": _taken(Option("choice", choices=("stem", "layer1", "layer2", "layer3", "layer4"), count=0)),
    # The training.
    "epochs": _taken(COUNT),
    "val_interval": _taken(COUNT),
    "patience": _taken(WHOLE),
    "batch_size": _taken(COUNT),
    "accumulation_steps": _taken(COUNT),
    "freeze_epochs": _taken(WHOLE),
    "keep": _taken(Option("choice", choices=("best", "last"))),
    "checkpoint_minutes": _free(Option("number", 0)),
    "learning_rate": _taken(POSITIVE),
    "decoder_rate_multiple": _taken(POSITIVE),
    "recipe": Option("choice", choices=("modern", "paper")),
    "schedule": _taken(Option("choice", choices=("cosine", "polynomial", "halving"))),
    "warmup_steps": _taken(WHOLE),
    "weight_decay": _taken(Option("number", 0)),
    "clip_norm": _taken(Option("number", 0)),
    "ema_decay": _taken(Option("number", 0, 1, below=True)),
    "halving": _taken(COUNT),
    "seed": SEED,
    "split_seed": SEED,
    "num_workers": _free(WHOLE),
    "precision": _taken(Option("choice", choices=("auto", "bf16", "fp16", "float32"))),
    "device": _free(Option("device")),
    # The data.
    "domains": Option("text", count=0, null=True),
    "domain_sampling": _taken(Option("number", 1, choices=("proportional", "even"))),
    "val_fraction": SHARE,
    "train_share": SHARE,
    "folds": Option("integer", 2, null=True),
    "fold": WHOLE,
    # Where it lies; its name is in settings.json, and a run goes on with the cases of its split.json.
    "split_file": _free(Option("path", null=True)),
    "cases": _free(Option("choice", choices=("validation", "unseen", "all"))),
    "lesion_overlap": _free(SHARE),
    "merge_tumours": FLAG,
    "threshold": Option("number", 1, 5),
    "at_threshold": Option("choice", choices=("benign", "malignant", "drop")),
    "readers": Option("choice", choices=("median", "mean", "max")),
    "channel": Option("integer", 0, null=True),
    # What the network sees of a scan.
    "spacing": MM,
    "cube_spacing": Option("number", 0, above=True, count=3, single=True),
    "patch_size": Option("integer", 1, count=3, single=True),
    "margin": _taken(Option("integer", 0, count=3)),
    "margin_mm": Option("number", 0, count=3, single=True),
    "intensity_range": Option("number", count=2, rising=True, null=True),
    "output_range": INTERVAL,
    "percentiles": Option("number", 0, 100, count=2, rising=True),
    # Augmentation and distortion.
    "cubes_per_scan": _taken(COUNT),
    "draws_per_epoch": _taken(COUNT),
    "max_tissue": _taken(PROBABILITY),
    "augmentation": _taken(Option("choice", choices=("modern", "paper"))),
    "balanced_crops": _taken(FLAG),
    "flip_prob": _taken(PROBABILITY),
    "flip_left_right": _taken(Option("flag", null=True)),
    "shuffle_prob": _taken(PROBABILITY),
    "intensity_prob": _taken(PROBABILITY),
    "paint_prob": _taken(PROBABILITY),
    "in_prob": _taken(PROBABILITY),
    "fill": _taken(Option("choice", choices=("noise", "constant"))),
    "expand_mm": _taken(DISTANCE),
    "translate_mm": _taken(DISTANCE),
    "rotate_degrees": _taken(Option("number", 0, 180)),
    # Inference.
    "domain": _free(Option("text", null=True)),
    "sw_batch_size": _free(COUNT),
    "overlap": _free(Option("number", 0, 1, below=True)),
    "skip_air": _free(FLAG),
    "mirror": _free(FLAG),
    "resample": _free(FLAG),
    "fuse": _free(FLAG),
    "components": _free(Option("integer", 1, null=True)),
}

RENAMED = {
    "bf16": "precision",
    "max_region": "patch_size",
    "region": "patch_size",
    "size": "patch_size",
    "cube_size": "patch_size",
    "window": "intensity_range",
    "range": "output_range",
    "fold_batch_norm": "fuse",
}
"""Options of version 0.1 to those that took their place."""
