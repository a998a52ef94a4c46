"""Read the XML files in which LIDC-IDRI keeps the radiologists' outlines of lung nodules."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from skimage.draw import line, polygon2mask

__all__ = ["Contour", "Reading", "Report", "read_report"]

_SCORES = ("1", "2", "3", "4", "5")


class Contour(NamedTuple):
    """An outline in one slice.

    Attributes:
        instance_uid: SOPInstanceUID of the slice.
        height: of the slice along the patient in mm, as the file gives it.
        included: False for the outline of a hole in the nodule.
        points: (column, row) of the edge's pixels, in the order of the walk around.
    """

    instance_uid: str
    height: float
    included: bool
    points: tuple[tuple[int, int], ...]

    def pixels(self) -> NDArray[np.int64]:
        """Return (column, row) of the pixels that belong to the nodule or the hole, (M, 2).

        The edge lies outside the nodule. So it counts to a hole, and to a nodule only if that has nothing else.

        Example:
            >>> Contour("1.2.3", 0, True, ((10, 10), (10, 12), (12, 12), (12, 10))).pixels().tolist()
            [[11, 11]]
        """
        points = np.array(self.points)
        low = points.min(axis=0)
        points -= low
        edge = np.zeros(points.max(axis=0) + 1, dtype=bool)
        edge[tuple(points.T)] = True
        following = np.roll(points, -1, axis=0)
        for gap in np.flatnonzero(np.abs(following - points).max(axis=1) > 1):
            edge[line(*points[gap], *following[gap])] = True
        filled = polygon2mask(edge.shape, points) | edge
        inside = filled & ~edge
        return np.argwhere(inside if self.included and inside.any() else filled) + low


class Reading(NamedTuple):
    """A nodule of 3 mm or more as one reader saw it.

    Attributes:
        reader: number of the reading session, from 0. Whether the readers of two files are the same is not known.
        name: of the nodule, by which the reader's file calls it.
        malignancy: 1 (highly unlikely) to 5 (highly suspicious).
        contours: of all slices.
    """

    reader: int
    name: str
    malignancy: int
    contours: tuple[Contour, ...]


@dataclass(frozen=True)
class Report:
    """All readings of one CT series.

    Attributes:
        file: that they are from.
        series_uid: SeriesInstanceUID of the CT.
        readings: in the order of the file.
        left_out: a line for each mark that should be a reading but is none.
    """

    file: Path
    series_uid: str
    readings: tuple[Reading, ...]
    left_out: tuple[str, ...]

    def same_readings(self, other: Report) -> bool:
        """Tell whether two reports hold the same outlines and scores, whatever the nodules and readers are called."""
        return self.series_uid == other.series_uid and _by_reader(self.readings) == _by_reader(other.readings)


def _by_reader(readings: Iterable[Reading]) -> list[list[tuple[int, list[Contour]]]]:
    """Return what each reader saw, without an order that means nothing."""
    readers: dict[int, list[tuple[int, list[Contour]]]] = {}
    for reading in readings:
        readers.setdefault(reading.reader, []).append((reading.malignancy, sorted(reading.contours)))
    return sorted(sorted(seen) for seen in readers.values())


def read_report(file: str | os.PathLike[str]) -> Report | None:
    """Read the nodules of 3 mm or more from an XML file of LIDC-IDRI.

    Nodules below 3 mm, which have a single point and no characteristics, and marks of other findings are passed over.
    Left out with a line in the report are such a point whose malignancy is 0, and a nodule that was outlined but not
    rated. The namespace does not matter, since it differs between the files of the collection.

    Returns:
        None if the file is not a report on a CT, such as those on chest radiographs.

    Raises:
        ValueError: if the file is not XML, lacks a part, or has a nodule of 3 mm or more whose malignancy is missing or
            not 1 to 5.
    """
    file = Path(file)
    root = _parse(file)
    if root.tag != "LidcReadMessage":
        return None
    readings, left_out = [], []
    for reader, session in enumerate(root.iterfind("readingSession")):
        for nodule in session.iterfind("unblindedReadNodule"):
            points = len(nodule.findall("roi/edgeMap"))
            characteristics = nodule.find("characteristics")
            name = _text(nodule, "noduleID", file)
            place = f"{file}: nodule {name} of reader {reader + 1}"
            if characteristics is None or not len(characteristics):
                if points > 1:
                    left_out.append(f"{place} is outlined, but has no malignancy or any other score; it is left out.")
            elif points == 1 and _malignancy(nodule) == "0":
                left_out.append(f"{place} is a point, as of a nodule below 3 mm, of malignancy 0; it is left out.")
            else:
                readings.append(_read_nodule(nodule, reader, name, file))
    return Report(file, _text(root, "ResponseHeader/SeriesInstanceUid", file), tuple(readings), tuple(left_out))


def _parse(file: Path) -> ElementTree.Element:
    """Read a file and drop the namespace of its tags."""
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as e:
        raise ValueError(f"{file} is no readable XML ({e}); copy it anew.") from e
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return root


def _malignancy(nodule: ElementTree.Element) -> str:
    return (nodule.findtext("characteristics/malignancy") or "").strip()


def _read_nodule(nodule: ElementTree.Element, reader: int, name: str, file: Path) -> Reading:
    malignancy = _malignancy(nodule)
    if malignancy not in _SCORES:
        fault = f"the malignancy {malignancy!r}, not 1 to 5" if malignancy else "no malignancy"
        raise ValueError(f"{file} gives nodule {name} of reader {reader + 1} {fault}; correct it, or copy it anew.")
    contours = tuple(
        Contour(
            instance_uid=_text(roi, "imageSOP_UID", file),
            height=_read_height(roi, file),
            included=_text(roi, "inclusion", file).upper() == "TRUE",
            points=_read_points(roi, file),
        )
        for roi in nodule.iterfind("roi")
    )
    return Reading(reader, name, int(malignancy), contours)


def _read_height(roi: ElementTree.Element, file: Path) -> float:
    text = _text(roi, "imageZposition", file)
    try:
        return float(text)
    except ValueError as e:
        raise ValueError(f"{file} has the imageZposition {text!r}, which is no number; copy it anew.") from e


def _read_points(roi: ElementTree.Element, file: Path) -> tuple[tuple[int, int], ...]:
    edge = [(point.findtext("xCoord"), point.findtext("yCoord")) for point in roi.iterfind("edgeMap")]
    if not edge:
        raise ValueError(f"{file} has a roi without edgeMap; copy it anew.")
    try:
        return tuple((int(x or ""), int(y or "")) for x, y in edge)
    except ValueError as e:
        raise ValueError(f"{file} has an edgeMap whose coordinates are no whole numbers ({e}); copy it anew.") from e


def _text(element: ElementTree.Element, path: str, file: Path) -> str:
    """Return the text of an element that must be there."""
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"{file} has no {path} in its {element.tag}; copy it anew.")
    return text
