"""A model card for people, in Markdown: what weights are, written from the run.json of their training.

The headings are those of the Hugging Face Hub's cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from med3d_components.records import data_licences

__all__ = ["model_card", "with_card"]

PLACE = re.compile(r"<!-- model card -->\n.*?<!-- end -->", flags=re.DOTALL)
UNKNOWN = "unknown: the training left no run.json"


def model_card(settings: Mapping[str, Any], metadata: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    """Return the card of a model.

    Args:
        settings: of its training, see :mod:`med3d_components.settings`.
        metadata: of its bundle.
        record: of its training, without paths and names of cases; None if there is none.

    Example:
        >>> card = model_card({"trained_on": ["Kidneys"]}, {"description": "A net.", "intended_use": "Research."}, None)
        >>> card.splitlines()[0]
        '## Model card'
    """
    sections = {
        "Model details": _details(settings, metadata, record),
        "Uses": _uses(metadata),
        "Training data": _data(settings, record),
        "Training procedure": _procedure(record),
        "Evaluation": _evaluation(record),
        "Limits": _limits(record),
    }
    lines = ["## Model card"]
    for title, content in sections.items():
        lines += ["", f"### {title}", "", *content]
    return "\n".join(lines)


def with_card(readme: str, card: str) -> str:
    r"""Return the text of a README with a card in its place, ``<!-- model card -->`` to ``<!-- end -->``.

    Args:
        readme: its text.
        card: Markdown.

    Raises:
        ValueError: if it has no such place.

    Example:
        >>> with_card("<!-- model card -->\nWithout weights.\n<!-- end -->\n", "## Model card")
        '## Model card\n'
    """
    if not PLACE.search(readme):
        raise ValueError("A README has no <!-- model card -->, where the card of a model goes; add it.")
    return PLACE.sub(lambda _: card, readme, count=1)


def _details(settings: Mapping[str, Any], metadata: Mapping[str, Any], record: Mapping[str, Any] | None) -> list[str]:
    lines = [_text(metadata.get("description", ""))]
    classes = settings.get("classes")
    rows = {"Classes": _classes(classes) if classes else "", "Licence of data and weights": UNKNOWN}
    if members := settings.get("network", {}).get("members"):
        rows["Ensemble"] = f"of {members} networks, whose probabilities are averaged"
    if record:
        name, version = record["bundle"]["name"], record["bundle"]["version"]
        rows["Bundle"] = f"{name} {version}"
        licences = data_licences(record)
        rows["Licence of data and weights"] = "; ".join(licences) or "not stated by their publishers"
    return [*lines, "", *_table(rows)]


def _uses(metadata: Mapping[str, Any]) -> list[str]:
    use = _text(metadata.get("intended_use", "Research."))
    clinical = "" if "not for clinical use" in use.lower() else " Not for clinical use."
    return [f"{use}{clinical}"]


def _data(settings: Mapping[str, Any], record: Mapping[str, Any] | None) -> list[str]:
    if record is None:
        names = ", ".join(map(_text, settings.get("trained_on", ()))) or "unknown data"
        return [f"{names}; licence and number of cases are {UNKNOWN}."]
    data = record["data"]
    lines = [
        "| Data set | Licence |",
        "|---|---|",
        *(f"| {_text(one['name'])} | {_text(one['licence'] or 'not stated')} |" for one in data["sets"]),
        "",
        f"{data['training']} cases trained, {data['validation']} validated.",
    ]
    return [*lines, "", *_ancestry(record)]


def _ancestry(record: Mapping[str, Any]) -> list[str]:
    """Return a list of the trainings before this one, each below the one that it was for."""
    if not record["weights"]:
        return ["It started from random weights."]
    return ["It started from:", "", *_ancestors(record, 0)]


def _ancestors(record: Mapping[str, Any], level: int) -> list[str]:
    lines = []
    for weights in record["weights"]:
        earlier = weights["record"]
        known = weights["training_sets"]
        sets = ", ".join(map(_text, known)) if known else "data that are not known"
        parts = [_text(weights["source"]), f"trained on {sets}"]
        if earlier:
            parts.append(f"by {_text(earlier['bundle']['name'])}, {earlier['data']['training']} cases")
        parts.append(f"licence {_text(weights['licence'] or 'not stated')}")
        if weights["sha256"]:
            parts.append(f"sha256 {weights['sha256'][:12]}")
        lines.append(f"{'  ' * level}* {', '.join(parts)}")
        lines += _ancestors(earlier, level + 1) if earlier else []
    return lines


def _procedure(record: Mapping[str, Any] | None) -> list[str]:
    if record is None:
        return [f"Options, machine and versions are {UNKNOWN}."]
    options, part = record["options"], record["parts"][-1]
    paths = ("dataset_dir", "run_dir", "ckpt_dir", "output_dir", "cache_dir", "resume")
    given = {f"`--{name}`": _value(options[name]) for name in record["given"] if name in options and name not in paths}
    environment = part["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in (environment["versions"] or {}).items())
    machine = {
        "Steps": f"{part['steps']}, {part['last_epoch']} epochs",
        "Seed": str(options.get("seed")),
        "Precision": _text(f"{part['precision']['name']} ({part['precision']['reason']})"),
        "Device": _text(environment["device"]),
        "Processor": f"{_text(environment['processor'])}, of which {environment['threads']} used",
        "Versions": versions,
        "Status": record["status"],
    }
    lines = ["Options other than the defaults:", "", *_table(given)] if given else ["All options had their defaults."]
    resumed = [f"It was interrupted and went on {len(record['parts']) - 1} times.", ""] * (len(record["parts"]) > 1)
    return [*lines, "", *resumed, *_table(machine)]


def _evaluation(record: Mapping[str, Any] | None) -> list[str]:
    if record is None:
        return [f"The score is {UNKNOWN}."]
    metric, epoch, ended = record["best"]["metric"], record["best"]["epoch"], record["parts"][-1]["last_epoch"]
    if not _is_best(record):
        epoch = ended
    row: Mapping[str, Any] = next((row for row in record["scores"] if row["epoch"] == epoch), {})
    score = record["best"]["score"] if _is_best(record) else row.get(metric)
    which = "" if _is_best(record) else ", the last"
    if score is None:
        return [f"These are the weights of epoch {epoch}, the last, which has no score."]
    count = record["data"]["validation"]
    cases = f"{count} validation case{'s' * (count != 1)}"
    lines = [f"{_text(metric)} {score:.4f} on {cases}, in epoch {epoch}{which}."]
    others = {
        _text(name): "-" if value is None else f"{value:.4f}"
        for name, value in row.items()
        if name not in ("epoch", metric)
    }
    return [*lines, *(["", *_table(others, ("Score", "Value"))] if others else [])]


def _is_best(record: Mapping[str, Any]) -> bool:
    """Tell whether the weights are those of the best epoch; else they are the last."""
    return record["options"].get("keep") != "last" and record["best"]["score"] is not None


def _limits(record: Mapping[str, Any] | None) -> list[str]:
    lines = [
        "What these weights do on other scanners, protocols, ages or diseases than those of their data is not known."
    ]
    if record and _is_best(record):
        lines.append("The epoch was chosen by the score above, which is therefore too good rather than too bad.")
    return [*lines, "Research software, not for clinical use."]


def _classes(classes: Any) -> str:
    if isinstance(classes, Mapping):
        return "; ".join(f"{_text(name)}: {_classes(names)}" for name, names in classes.items())
    return ", ".join(map(_text, classes))


def _value(value: Any) -> str:
    return _text(",".join(map(str, value)) if isinstance(value, list) else "null" if value is None else value)


def _table(rows: Mapping[str, str], head: Sequence[str] = ("", "")) -> list[str]:
    filled = [f"| {name} | {value} |" for name, value in rows.items() if value]
    return [f"| {' | '.join(head)} |", "|---|---|", *filled]


def _text(value: Any) -> str:
    """Return a text from outside as plain words of one line of a table."""
    return re.sub(r"([|<>`\[\]\\])", r"\\\1", " ".join(str(value).split()))
