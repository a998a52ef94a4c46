"""Find the CT series and XML files of a download of LIDC-IDRI, and which report is on which series."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from med3d_components.data.dicom import DicomSeries, FoundSeries, walk_files
from med3d_components.prepare.lidc_xml import Report, read_report

__all__ = ["choose_reports", "find_xml", "pair_reports"]

_log = logging.getLogger(__name__)


def find_xml(source: Path) -> list[Path]:
    """Return all XML files in a folder and below it but hidden ones, sorted.

    A folder that cannot be opened is not told here: the search for series tells it.
    """
    files = walk_files(source, unreadable=[])
    return sorted(path for path in files if path.suffix.lower() == ".xml" and not path.name.startswith("."))


def choose_reports(files: Iterable[Path]) -> dict[str, Report]:
    """Read the reports, and return one for each SeriesInstanceUID.

    Several files may be on one series. A file with "correction" in its name wins over others, as the one that LIDC-IDRI
    submitted again, with a warning; apart from that they must hold the same readings, whatever their bytes are.

    Raises:
        ValueError: if a file is damaged, or two report differently on a series.
    """
    reports: dict[str, list[Report]] = defaultdict(list)
    for file in tqdm(files, desc="annotations", unit="file"):
        report = read_report(file)
        if report is not None:
            reports[report.series_uid].append(report)
    return {uid: _choose(some) for uid, some in reports.items()}


def _choose(reports: Sequence[Report]) -> Report:
    """Return the report that counts among those on one series."""
    corrections = [report for report in reports if "correction" in report.file.name.lower()]
    first, *others = corrections or reports
    for other in others:
        if not first.same_readings(other):
            raise ValueError(
                f"{first.file} and {other.file} report differently on series {first.series_uid}; move one away, or "
                "rename the one that replaces the other so that its name says correction."
            )
    for replaced in (report for report in reports if corrections and report not in corrections):
        _log.warning("Left out %s: %s corrects it.", replaced.file, first.file)
    return first


def pair_reports(found: FoundSeries, reports: dict[str, Report]) -> list[tuple[DicomSeries, Report]]:
    """Match series to the reports on them, in the order of the series.

    Warns of what a report leaves out, of DICOM files that are no slices, of a series that is not one volume, and of one
    without report or the reverse.
    """
    for note in found.notes:
        _log.warning("%s", note)
    for _, reason in found.failures:
        _log.warning("Passed over: %s", reason)
    volumes: dict[str, list[DicomSeries]] = defaultdict(list)
    for series in found.series:
        volumes[series.uid].append(series)
    _warn("DICOM series without XML file", [some[0].path for uid, some in volumes.items() if uid not in reports])
    _warn(
        "XML files whose series is not there or not one volume",
        [f"{report.file}, series {uid}" for uid, report in reports.items() if uid not in volumes],
    )
    pairs = []
    for uid in (uid for uid in volumes if uid in reports):
        volume = _volume_of(reports[uid], volumes[uid])
        if volume is not None:
            pairs.append((volume, reports[uid]))
            for line in reports[uid].left_out:
                _log.warning("%s", line)
    return pairs


def _warn(what: str, some: Sequence[str]) -> None:
    if some:
        _log.warning("Passed over %d %s, the first is %s", len(some), what, some[0])


def _volume_of(report: Report, volumes: Sequence[DicomSeries]) -> DicomSeries | None:
    """Return the volume that a report is on, of those that share its UID."""
    if len(volumes) == 1:
        return volumes[0]
    outlined = {contour.instance_uid for reading in report.readings for contour in reading.contours}
    fitting = [series for series in volumes if outlined.issubset(series.instance_uids)]
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(series.path for series in volumes)
    _log.warning("Passed over %s: its outlines are not in one of %s alone.", report.file, names)
    return None
