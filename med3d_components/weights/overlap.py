"""Warn when weights have seen the scans that they are to be tested on."""

from __future__ import annotations

from med3d_components.weights.load import LoadReport

__all__ = ["describe_overlap"]

# Names, or parts of names, under which the same scans go.
SAME_SCANS = (
    ("task01", "braintumour", "brats"),
    ("task03", "lits", "3dircadb"),
    ("lasc", "atriaseg", "leftatrium"),
    ("luna16", "lidc"),
)


def describe_overlap(report: LoadReport, dataset: str) -> str | None:
    """Say that a data set may be among those that weights were trained on, or return None if it is not.

    Names decide, so a renamed data set goes unnoticed.

    Args:
        report: of the weights.
        dataset: name of the data set that is trained and validated on.

    Example:
        >>> from pathlib import Path
        >>> nothing = ((),) * 5
        >>> report = LoadReport("medicalnet", Path("resnet_10.pth"), "", *nothing, 1.0, ("Task03_Liver",))
        >>> describe_overlap(report, "LiTS")
        "LiTS may be among the data that 'medicalnet' was trained on (Task03_Liver): ..."
    """
    if report.training_sets is None:
        return (
            f"The data sets that {report.source!r} was trained on are not published: "
            f"{dataset} may be one of them, so that scores on it are no independent test."
        )
    seen = [name for name in report.training_sets if _key(name) == _key(dataset)]
    if not seen:
        return None
    return (
        f"{dataset} may be among the data that {report.source!r} was trained on ({', '.join(seen)}): "
        "scores on it are no independent test."
    )


def _key(name: str) -> str | int:
    """Return the same for two names of the same scans."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return next((i for i, names in enumerate(SAME_SCANS) if any(part in plain for part in names)), plain)
