"""Which cases a model was trained and chosen on: ``split.json`` beside ``model.pt``, and what follows from it.

The file names cases with digests of their files::

    {
      "trained_on": ["Task09_Spleen"],
      "training": {"case_1": "IMAGE.LABEL", ...},
      "validation": {"case_2": "IMAGE.LABEL", ...},
      "ancestors": {"Task03_Liver": {"case_7": "IMAGE.LABEL", ...}}
    }

With several domains a case is ``Domain/case``. Ancestors are the training cases of the models that the training started
from, by data set. A digest tells a case again in a copy, in a grown folder and under another name; the image's part of
it tells a scan again whose label was corrected.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from med3d_components.data.digests import image_digests
from med3d_components.data.scan import Place
from med3d_components.utils import as_flag
from med3d_components.utils.options import check_value

__all__ = [
    "Division",
    "ModelSplit",
    "SplitList",
    "case_sets",
    "inherit",
    "read_split",
]

logger = logging.getLogger(__name__)

Digests = Mapping[str, str]
"""Case to its digest."""
Split = Mapping[str, Any]
"""Content of ``split.json``."""

FILE = "split.json"
PARTS = ("training", "validation")
NAMED = 5
"""How many cases a line names."""
REPLACED = " (changed)"
"""Ends the set of a case whose image or label is another than in the training."""


@dataclass(frozen=True)
class Division:
    """What cases of a folder are for a run.

    Attributes:
        training: names, in the order in which they train; of an evaluation, those that baselines are fitted to.
        validation: names of those that are scored.
        sets: of an evaluation, name to "training", "validation", "new" or "ancestor", or, where the case is not what it
            was, "training (changed)" or "validation (changed)"; "unknown" without a ``split.json``.
        replaced: of a resumed run, name to the digest that a training case had until now.
    """

    training: list[str]
    validation: list[str]
    sets: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)

    def mark(self, case: str) -> dict[str, str]:
        """Return the "set" of a case's item, nothing in a training."""
        return {"set": self.sets[case]} if self.sets else {}


class ModelSplit:
    """The split of a model, for a run that goes on with the model, scores it, or starts from others.

    Args:
        ckpt_dir: folder of the model, with its ``split.json``.
        resume: whether the run goes on with it.
        cases: of an evaluation, which are scored: "validation", those that chose the model; "unseen", these and new
            ones; or "all". None for a training.
        started_from: weight files that a new training starts from, or names of published weights, of which none counts.
        unused: options that say nothing in an evaluation, with what was given for them; None if nothing was.

    Raises:
        FileNotFoundError: for an evaluation of less than all cases, if there is no ``split.json``.
        ValueError: if it is damaged, or an option was given that says nothing.

    Example:
        >>> ModelSplit("models", cases="all").divide({"case_1": "0a.ff"}, ["Task09_Spleen"]).sets
        {'case_1': 'unknown'}
    """

    def __init__(
        self,
        ckpt_dir: Place,
        resume: bool | str = False,
        cases: str | None = None,
        started_from: Iterable[str | None] = (),
        unused: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(ckpt_dir, FILE)
        self.cases = None if cases is None else str(check_value("cases", cases))
        self.started_from = [str(source) for source in started_from if source is not None]
        given = [f"--{name}" for name, value in (unused or {}).items() if value is not None]
        if given:
            raise ValueError(
                f"{' and '.join(given)}: an evaluation draws no cases; choose by --cases validation, unseen or all."
            )
        resumed = as_flag("resume", resume)
        self.known = read_split(self.path) if resumed or self.cases else None
        if self.cases not in (None, "all") and self.known is None:
            raise FileNotFoundError(
                f"{self.path} does not exist, so it is not known which cases the model was trained on; score all of "
                "them by --cases all, or train again."
            )

    @property
    def evaluating(self) -> bool:
        """Whether a model is scored, not trained."""
        return self.cases is not None

    @property
    def draws(self) -> bool:
        """Whether the run draws cases itself, since there is no split that it must keep."""
        return not self.evaluating and self.known is None

    def ancestors(self) -> dict[str, dict[str, str]]:
        """Return the training cases of the models before this one, by data set."""
        if self.known is not None:
            return {name: dict(cases) for name, cases in self.known["ancestors"].items()}
        return inherit(split for source in self.started_from if (split := _split_of(source)) is not None)

    def divide(
        self, digests: Digests, trained_on: Sequence[str], folder: Place = "", patients: Digests | None = None
    ) -> Division:
        """Say what the cases of a folder are for a run that does not draw.

        Args:
            digests: of all its cases.
            trained_on: names of the data sets in it.
            folder: for messages.
            patients: of cases; one who trained is not scored.

        Raises:
            ValueError: if a resumed run lacks cases, or there is none to score.
        """
        if self.evaluating:
            return self._score(digests, trained_on, folder, patients or {})
        return self._go_on(digests, trained_on, folder)

    def _score(self, digests: Digests, trained_on: Sequence[str], folder: Place, patients: Digests) -> Division:
        if self.known is None:
            logger.warning("%s does not exist: it is not known which cases were trained on.", self.path)
            return Division([], list(digests), dict.fromkeys(digests, "unknown"))
        sets = case_sets(self.known, digests, trained_on, patients)
        images = _images(self.known["validation"].values())
        wanted = {
            "all": lambda case: True,
            "unseen": lambda case: sets[case].startswith(("validation", "new")),
            "validation": lambda case: sets[case].startswith("validation") and image_digests(digests[case]) & images,
        }[str(self.cases)]
        scored = [case for case in digests if wanted(case)]
        self._tell(sets, scored)
        if not scored:
            trained, new = (sum(each.startswith(name) for each in sets.values()) for name in ("training", "new"))
            which = "no validation case" if self.cases == "validation" else "no unseen case"
            todo = "the new ones by --cases unseen" if new and self.cases == "validation" else "all by --cases all"
            raise ValueError(
                f"{folder} holds {which} of {self.path}: of its {len(digests)} cases {trained} trained, and {new} "
                f"{'is' if new == 1 else 'are'} new; score {todo}."
            )
        return Division([case for case in digests if sets[case] == "training"], scored, sets)

    def _tell(self, sets: Mapping[str, str], scored: Sequence[str]) -> None:
        known: Split = self.known or {}
        total, found = len(known["validation"]), sum(each.startswith("validation") for each in sets.values())
        logger.info("The folder has %d of the model's %d validation cases. Scored: %d.", found, total, len(scored))
        taken = set(scored)
        for name, what in (
            ("new", "New"),
            ("training" + REPLACED, "Trained on, but changed since"),
            ("validation" + REPLACED, "Validated on, but changed since"),
            ("ancestor", "Trained on by a model that this one started from"),
        ):
            of_set = [case for case, each in sets.items() if each == name]
            for cases, how in (
                ([case for case in of_set if case in taken], "scored"),
                ([case for case in of_set if case not in taken], "not scored"),
            ):
                if cases:
                    logger.warning("%s, %s: %s.", what, how, _some_names(cases))
        if "training" not in sets.values():
            logger.warning("None of the model's training cases is there, so no baseline is fitted to them.")

    def _go_on(self, digests: Digests, trained_on: Sequence[str], folder: Place) -> Division:
        known: Split = self.known or {}
        before = {**known["validation"], **known["training"]}
        found = _match(before, digests, _names_count(known["trained_on"], before, digests, trained_on))
        if missing := [case for case in before if case not in found]:
            raise ValueError(
                f"{folder} lacks {_some_names(missing)}, which the run that is resumed trains or validates on; put "
                "them back, or start a new training without --resume."
            )
        used = set(found.values())
        if new := [case for case in digests if case not in used]:
            logger.warning(
                "New since the run began, and left out: %s; start a new training to use them.",
                _some_names(new),
            )
        renamed = [f"{case} as {found[case]}" for case in before if found[case] != case]
        if renamed:
            logger.info("Found by their content: %s.", _some_names(renamed))
        if changed := [found[case] for case in before if digests[found[case]] != before[case]]:
            logger.warning("Changed since the run began: %s.", _some_names(changed))
        replaced = {
            case: before[case]
            for case in known["training"]
            if not image_digests(digests[found[case]]) & image_digests(before[case])
        }
        training, validation = ([found[case] for case in known[part]] for part in PARTS)
        return Division(training, validation, replaced=replaced)


class SplitList:
    """What the lists of training and validation cases have in common: how they divide, and what of it is kept.

    Attributes:
        split: content of ``split.json``; to ask for it reads all files that train or validate, once.
    """

    _division: Division
    _trained_on: Sequence[str]
    _digest: Callable[[Iterable[str]], dict[str, str]]
    _model_split: ModelSplit | None

    def _divide(
        self,
        model_split: ModelSplit | None,
        trained_on: Sequence[str],
        folder: Place,
        cases: Sequence[str],
        digest: Callable[[Iterable[str]], dict[str, str]],
        draw: Callable[[], tuple[list[str], list[str]]],
        patients: Digests | None = None,
    ) -> Division:
        """Divide the cases of a folder: as the model has them, or as they are drawn.

        Args:
            model_split: of the model; None to draw.
            trained_on: names of the data sets.
            folder: for messages.
            cases: names of all cases.
            digest: returns the digests of cases.
            draw: returns the names of the training and of the validation cases.
            patients: see :meth:`ModelSplit.divide`.
        """
        self._trained_on, self._digest, self._model_split = trained_on, digest, model_split
        if model_split is None or model_split.draws:
            self._division = Division(*draw())
        else:
            digests = digest(cases) if model_split.known is not None else dict.fromkeys(cases, "")
            self._division = model_split.divide(digests, trained_on, folder, patients)
        return self._division

    @cached_property
    def split(self) -> dict[str, Any]:
        """Content of ``split.json``."""
        division, names = self._division, list(self._trained_on)
        digests = self._digest(dict.fromkeys([*division.training, *division.validation]))
        parts = {part: {case: digests[case] for case in getattr(division, part)} for part in PARTS}
        ancestors = self._model_split.ancestors() if self._model_split else {}
        if division.replaced:
            before = {"trained_on": names, "training": division.replaced, "ancestors": ancestors}
            ancestors = inherit([before])
        nothing: Split = {"trained_on": [], "training": {}, "validation": {}, "ancestors": ancestors}
        sets = case_sets(nothing, parts["validation"], names)
        if seen := [case for case, each in sets.items() if each == "ancestor"]:
            logger.warning(
                "To validate, but trained on by a model that this training starts from: %s. Their scores are no "
                "independent test, and evaluating leaves them out.",
                _some_names(seen),
            )
        return {"trained_on": names, **parts, "ancestors": ancestors}


def case_sets(
    split: Split, digests: Digests, trained_on: Sequence[str], patients: Digests | None = None
) -> dict[str, str]:
    """Return what each case of a folder was for a model, see :class:`Division`.

    A case is told by its images. A name tells something only where the folder has the name of the data set or shares a
    case with it: there is a ``case_001`` in many sets.

    Args:
        split: of the model.
        digests: of the folder's cases.
        trained_on: names of the data sets in the folder.
        patients: of cases: all of one count as trained on if one does.

    Example:
        >>> split = {"trained_on": ["a"], "training": {"1": "0a.ff"}, "validation": {"2": "0b.ff"}, "ancestors": {}}
        >>> case_sets(split, {"1": "0a.ee", "2": "0b.ff", "3": "0c.ff", "4": "0a.ff"}, ["a_v2"])
        {'1': 'training (changed)', '2': 'validation', '3': 'new', '4': 'training'}
    """
    parts = {part: split[part] for part in PARTS}
    images = {part: _images(cases.values()) for part, cases in parts.items()}
    content = {part: set(cases.values()) for part, cases in parts.items()}
    before = {**split["validation"], **split["training"]}
    named = _names_count(split["trained_on"], before, digests, trained_on)
    ancestors: set[str] = set()
    for name, cases in split["ancestors"].items():
        seen = _images(cases.values())
        by_name = _names_count([name], cases, digests, trained_on)
        short = {case: case.removeprefix(f"{name}/") for case in digests}
        ancestors |= {
            case for case in digests if image_digests(digests[case]) & seen or (by_name and short[case] in cases)
        }

    def find(case: str) -> str:
        digest = digests[case]
        for part in ("training", "ancestor", "validation"):
            if part == "ancestor":
                if case in ancestors:
                    return part
            elif image_digests(digest) & images[part]:
                return part + (REPLACED if case in parts[part] and digest not in content[part] else "")
        return next((part + REPLACED for part in PARTS if named and case in parts[part]), "new")

    sets = {case: find(case) for case in digests}
    for part in ("training", "ancestor"):
        trained = {patient for case, patient in (patients or {}).items() if sets[case].startswith(part)}
        for case, patient in (patients or {}).items():
            if patient in trained and not sets[case].startswith(("training", "ancestor")):
                sets[case] = part
    return sets


def inherit(splits: Iterable[Split]) -> dict[str, dict[str, str]]:
    """Return the ancestors of a training that starts from models: what these were trained on, and their ancestors.

    Cases of one name that are not equal are kept side by side.

    Args:
        splits: of the models.

    Example:
        >>> split = {"trained_on": ["a"], "training": {"1": "0a.ff"}, "validation": {}, "ancestors": {"b": {"1": "0b"}}}
        >>> inherit([split])
        {'b': {'1': '0b'}, 'a': {'1': '0a.ff'}}
    """
    merged: dict[str, dict[str, str]] = {}
    for split in splits:
        for name, cases in [*split["ancestors"].items(), *_by_data_set(split)]:
            _add_cases(merged.setdefault(name, {}), cases)
    return merged


def _add_cases(cases: dict[str, str], more: Digests) -> None:
    """Add cases to others; one of the same name and other content gets a number.

    Example:
        >>> cases = {"1": "0a"}
        >>> _add_cases(cases, {"1": "0b", "2": "0c"})
        >>> cases
        {'1': '0a', '1 (2)': '0b', '2': '0c'}
    """
    for case, digest in more.items():
        name, number = case, 1
        while cases.get(name, digest) != digest:
            number += 1
            name = f"{case} ({number})"
        cases[name] = digest


def read_split(path: Path) -> dict[str, Any] | None:
    """Return the content of a ``split.json``, None if there is none.

    Raises:
        ValueError: if it is damaged.

    Example:
        >>> read_split(Path("models/split.json")) is None
        True
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if (split := _checked(content)) is None:
        raise ValueError(f"{path} is damaged; restore it, it belongs to model.pt beside it.")
    return split


def _some_names(cases: Sequence[str]) -> str:
    """Return how many cases there are, and the names of the first.

    Example:
        >>> _some_names(["a"]), _some_names(["a", "b", "c", "d", "e", "f"])
        ('1 case (a)', '6 cases (a, b, c, d, e, ...)')
    """
    more = ", ..." if len(cases) > NAMED else ""
    return f"{len(cases)} case{'s' * (len(cases) != 1)} ({', '.join(cases[:NAMED])}{more})"


def _checked(content: Any) -> dict[str, Any] | None:
    """Return a split that holds what it must, None for anything else."""

    def are_cases(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)

    if not isinstance(content, dict) or not all(are_cases(content.get(part)) for part in PARTS):
        return None
    split = {"trained_on": [], "ancestors": {}, **content}
    names, ancestors = split["trained_on"], split["ancestors"]
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(ancestors, dict)
    return split if valid and all(are_cases(cases) for cases in ancestors.values()) else None


def _split_of(source: str) -> dict[str, Any] | None:
    """Return the split of a weight file: an entry of it, or a file beside it or in the run's ``models/``."""
    path = Path(source.partition(":")[2] if source.startswith(("kinetics:", "genesis:")) else source).expanduser()
    if not path.is_file():
        return None
    content: Any = {}
    for mapped in (True, False):  # what an old torch has written cannot be mapped
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            break
        except Exception:  # no file of torch, or damaged: what loads the weights says so
            continue
    if isinstance(content, Mapping) and (split := _checked(content.get("split"))) is not None:
        return split
    for file in (path.with_name(FILE), path.parent.parent / "models" / FILE):
        if (split := read_split(file)) is not None:
            return split
    settings = content.get("settings") if isinstance(content, Mapping) else None
    if isinstance(settings, Mapping) and "bundle" in settings:
        logger.warning("%s does not say which cases it was trained on, and no split.json lies beside it.", path)
    return None


def _by_data_set(split: Split) -> list[tuple[str, dict[str, str]]]:
    """Return the training cases of each of the data sets of a split."""
    names, training = split["trained_on"], split["training"]
    if names and all(case.partition("/")[0] in names and "/" in case for case in training):
        return [
            (name, {case.removeprefix(f"{name}/"): x for case, x in training.items() if case.startswith(f"{name}/")})
            for name in names
        ]
    return [(", ".join(names), dict(training))]


def _names_count(names: Iterable[str], before: Digests, digests: Digests, trained_on: Sequence[str]) -> bool:
    """Tell whether equal names mean the same case: in the same data set, or where one case at least is the same."""
    return bool(set(names) & set(trained_on) or _images(before.values()) & _images(digests.values()))


def _images(digests: Iterable[str]) -> set[str]:
    return set().union(*map(image_digests, digests))


def _match(before: Digests, digests: Digests, names_count: bool) -> dict[str, str]:
    """Return the cases of a split as they are called in a folder.

    By name and content first, then by content, then by the image alone, and last by a name that counts.
    """
    found: dict[str, str] = {}
    free = dict(digests)

    def take(find: Callable[[str, str], str | None]) -> None:
        for case, digest in before.items():
            if case not in found and (there := find(case, digest)) is not None and there in free:
                found[case] = there
                del free[there]

    def same(case: str, digest: str, part: Callable[[str], Any]) -> str | None:
        return case if case in free and part(free[case]) == part(digest) else None

    def other(digest: str, part: Callable[[str], Any]) -> str | None:
        return next((there for there, each in free.items() if part(each) == part(digest)), None)

    for part in (str, image_digests):
        take(lambda case, digest, part=part: same(case, digest, part))  # type: ignore[misc]
        take(lambda _, digest, part=part: other(digest, part))  # type: ignore[misc]
    if names_count:
        take(lambda case, _: case)
    return found
