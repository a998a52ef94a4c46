"""Look at data before anything is trained with it."""

from __future__ import annotations

import sys

from med3d_components.prepare.data_report import write_data_report

__all__ = ["check"]


def check(dataset: str, out: str | None = None) -> None:
    """Look at each case of a data set, and say what is wrong with it.

    Writes report.html, with a picture of each case, and cases.csv. The exit code is 1 if a case cannot be used.

    Args:
        dataset: folder in the layout of the Medical Segmentation Decathlon, or of scans at any depth; its files are
            only read.
        out: folder for the report; by default report in DATASET.
    """
    report = write_data_report(str(dataset), None if out is None else str(out))
    print(report)
    if report.has_errors:
        sys.exit(1)
