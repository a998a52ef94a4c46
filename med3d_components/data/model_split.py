"""Which cases train and validate, and which a model is scored on, by its ``split.json``.

For the file see :mod:`med3d_components.data.split_file`, for how cases are told again
:mod:`med3d_components.data.case_sets`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from med3d_components.data.case_sets import REPLACED, case_sets, marks, match_cases, names_count, some_names, told_by
from med3d_components.data.scan import Place
from med3d_components.data.split_file import FILE, PARTS, Digests, Split, inherit, read_split, split_of
from med3d_components.utils import as_flag
from med3d_components.utils.options import check_value

__all__ = ["Division", "ModelSplit", "SplitList"]

logger = logging.getLogger(__name__)


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
        return inherit(split for source in self.started_from if (split := split_of(source)) is not None)

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
        before = {**self.known["validation"], **self.known["training"]}
        told = told_by(before)
        chosen_on = frozenset().union(*(told[case] for case in self.known["validation"]))
        validating = {case for case in digests if marks(digests[case]) & chosen_on}
        scored = [case for case in digests if self._wants(sets[case], case in validating)]
        # Where names counted, these would be changed ones.
        namesakes = [case for case in digests if sets[case] == "new" and case in before]
        self._tell(sets, scored, validating, namesakes)
        if not scored:
            raise ValueError(self._nothing_to_score(sets, folder, bool(namesakes)))
        return Division([case for case in digests if sets[case] == "training"], scored, sets)

    def _wants(self, of_set: str, validating: bool) -> bool:
        """Tell whether a case of a set is scored; what has another scan under the name of one did not validate."""
        if self.cases == "all":
            return True
        if self.cases == "unseen":
            return of_set.startswith(("validation", "new"))
        return of_set.startswith("validation") and validating

    def _nothing_to_score(self, sets: Mapping[str, str], folder: Place, namesakes: bool) -> str:
        trained, new = (sum(each.startswith(name) for each in sets.values()) for name in ("training", "new"))
        inherited = sum(each == "ancestor" for each in sets.values())
        which = "no validation case" if self.cases == "validation" else "no unseen case"
        counts = [
            f"{trained} trained",
            *([f"{inherited} trained a model that this one started from"] * (inherited > 0)),
        ]
        todo = "score all by --cases all"
        if namesakes:
            todo = "some have the names of cases of the model, so they may be the same scans, saved anew; " + todo
        elif new and self.cases == "validation":
            todo = "score the new ones by --cases unseen"
        return (
            f"{folder} holds {which} of {self.path} to score: of its {len(sets)} cases {', '.join(counts)}, and {new} "
            f"{'is' if new == 1 else 'are'} new; {todo}."
        )

    def _tell(
        self, sets: Mapping[str, str], scored: Sequence[str], validating: set[str], namesakes: Sequence[str]
    ) -> None:
        known: Split = self.known or {}
        found = validating | {case for case, each in sets.items() if each.startswith("validation")}
        inherited = sum(sets[case] == "ancestor" for case in found)
        why = f" ({inherited} trained a model that this one started from)" if inherited else ""
        total = len(known["validation"])
        counts = (len(found), total, why, len(scored))
        logger.info("The folder has %d of the model's %d validation cases%s. Scored: %d.", *counts)
        if namesakes:
            logger.warning(
                "No scan of the folder is one of the model's by its content, but these have the names of some: %s. If "
                "they are the same scans, saved anew, they trained or chose the model, and their scores are no test.",
                some_names(namesakes),
            )
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
                    logger.warning("%s, %s: %s.", what, how, some_names(cases))
        if "training" not in sets.values():
            logger.warning("None of the model's training cases is there, so no baseline is fitted to them.")

    def _go_on(self, digests: Digests, trained_on: Sequence[str], folder: Place) -> Division:
        known: Split = self.known or {}
        before = {**known["validation"], **known["training"]}
        found = match_cases(before, digests, names_count(known["trained_on"], before, digests, trained_on))
        if missing := [case for case in before if case not in found]:
            raise ValueError(
                f"{folder} lacks {some_names(missing)}, which the run that is resumed or replayed trains or validates "
                "on; put them back, or start a new training without --resume."
            )
        told = told_by(before)
        used = set(found.values())
        if new := [case for case in digests if case not in used]:
            logger.warning(
                "New since the run began, and left out: %s; start a new training to use them.",
                some_names(new),
            )
        renamed = [f"{case} as {found[case]}" for case in before if found[case] != case]
        if renamed:
            logger.info("Found by their content: %s.", some_names(renamed))
        if changed := [found[case] for case in before if digests[found[case]] != before[case]]:
            logger.warning("Changed since the run began: %s.", some_names(changed))
        replaced = {case: before[case] for case in known["training"] if not marks(digests[found[case]]) & told[case]}
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
                some_names(seen),
            )
        return {"trained_on": names, **parts, "ancestors": ancestors}
