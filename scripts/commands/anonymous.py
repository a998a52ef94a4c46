"""A record without what tells of the people and the machine: no host, user, path, command line or name of a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from med3d_components.utils.options import OPTIONS
from med3d_components.weights.load import MEDICALNET

__all__ = ["anonymous_record", "placeholder"]

# Lists of what is kept, not of what is left out: what is added to a record later stays at home until it is named here.
KEPT = ("format", "status", "bundle", "run_id", "configs", "changed", "given", "best", "scores", "files")
ENVIRONMENT = (
    *("package", "versions", "system", "processor", "instructions"),
    *("threads", "processes", "device", "variables"),
)
PART = ("status", "started", "ended", "first_epoch", "last_epoch", "steps", "precision")
WEIGHTS = ("option", "sha256", "licence", "training_sets")


def anonymous_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as it travels with a model.

    Paths become a placeholder such as ``<dataset_dir>``. Names of data sets and classes stay, as they do in
    settings.json.

    Args:
        record: of a training, see :func:`read_record`.
    """
    data = record["data"]
    return {
        **{name: record[name] for name in KEPT if name in record},
        "options": _options(record["options"]),
        "data": {
            "sets": [{name: one[name] for name in ("name", "licence", "dataset_json")} for one in data["sets"]],
            **{name: data[name] for name in ("training", "validation", "listing")},
        },
        "weights": [
            {
                **{name: weights.get(name) for name in WEIGHTS},
                "source": placeholder(weights["option"], weights["source"]),
                "record": anonymous_record(weights["record"]) if weights["record"] else None,
            }
            for weights in record["weights"]
        ],
        "parts": [
            {
                **{name: part.get(name) for name in PART},
                "environment": {name: part["environment"].get(name) for name in ENVIRONMENT},
                "options": _options(part.get("options", {})),
            }
            for part in record["parts"]
        ],
    }


def placeholder(option: str, value: Any) -> Any:
    """Return what stands for the value of an option: the value itself if it is no path.

    Example:
        >>> placeholder("pretrained_weights", "genesis:/home/me/Genesis_Chest_CT.pt"), placeholder("depth", 10)
        ('genesis:<pretrained_weights>', 10)
    """
    kind = OPTIONS[option].kind if option in OPTIONS else "path"
    if value is None or kind not in ("path", "weights"):
        return value
    if kind == "weights" and (value in MEDICALNET or str(value).lower() == "none"):
        return value
    layout = str(value).partition(":")[0] if kind == "weights" else ""
    return f"{layout}:<{option}>" if layout in ("genesis", "kinetics") else f"<{option}>"


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: placeholder(name, value) for name, value in options.items() if name in OPTIONS}
