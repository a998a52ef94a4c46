"""Read the XML files in which LIDC-IDRI keeps the radiologists' outlines of lung nodules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from skimage.draw import line, polygon2mask

from med3d_components.data.dicom import DicomSeries

__all__ = ["Contour", "Reading", "Report", "read_report"]


class Contour(NamedTuple):
    """An outline in one slice.

    Attributes:
        instance_uid: SOPInstanceUID of the slice.
        included: False for the outline of a hole in the nodule.
        points: (column, row) of the edge's pixels, (N, 2).
    """

    instance_uid: str
    included: bool
    points: NDArray[np.int64]

    def pixels(self) -> NDArray[np.int64]:
        """Return (column, row) of the pixels that belong to the nodule or the hole, (M, 2).

        The edge lies outside the nodule. So it counts to a hole, and to a nodule only if that has nothing else.
        """
        low = self.points.min(axis=0)
        points = self.points - low
        edge = np.zeros(points.max(axis=0) + 1, dtype=bool)
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):  # points may have gaps between them
            edge[line(*start, *end)] = True
        filled = polygon2mask(edge.shape, points) | edge
        inside = filled & ~edge
        return np.argwhere(inside if self.included and inside.any() else filled) + low


class Reading(NamedTuple):
    """A nodule of 3 mm or more as one reader saw it.

    Attributes:
        file: that the reading is from.
        reader: number of the reading session. LIDC-IDRI does not tell whether the readers of two files are the same.
        malignancy: 1 (highly unlikely) to 5 (highly suspicious).
        contours: of all slices.
    """

    file: Path
    reader: int
    malignancy: int
    contours: tuple[Contour, ...]

    def voxels(self, series: DicomSeries) -> NDArray[np.int64]:
        """Return the voxels of the nodule without its holes, as sorted flat indices into the series, (N,).

        Raises:
            ValueError: if the contours do not fit the series, or leave no voxel.
        """
        nodule, holes = (self._outlined(series, included) for included in (True, False))
        voxels = np.setdiff1d(nodule, holes)
        if not voxels.size:
            raise ValueError(f"{self.file} has a nodule of reader {self.reader + 1} without a voxel; correct it.")
        return voxels

    def _outlined(self, series: DicomSeries, included: bool) -> NDArray[np.int64]:
        parts = [np.empty(0, np.int64)]
        for contour in self.contours:
            if contour.instance_uid not in series.instance_uids:
                raise ValueError(
                    f"{self.file} outlines slice {contour.instance_uid}, which {series.folder} does not hold; "
                    "copy the series anew."
                )
            if contour.included is included:
                columns, rows = contour.pixels().T
                slices = np.full_like(rows, series.instance_uids.index(contour.instance_uid))
                try:
                    parts.append(np.ravel_multi_index((columns, rows, slices), series.shape))
                except ValueError as e:
                    size = " x ".join(map(str, series.shape[:2]))
                    raise ValueError(f"{self.file} has an outline beyond the {size} pixels of its series.") from e
        return np.concatenate(parts)


class Report(NamedTuple):
    """All readings of one CT series."""

    file: Path
    series_uid: str
    readings: tuple[Reading, ...]


def read_report(file: str | os.PathLike[str]) -> Report | None:
    """Read the nodules of 3 mm or more from an XML file of LIDC-IDRI.

    Nodules below 3 mm, which have a single point and no characteristics, and marks of other findings are passed over.
    The namespace does not matter, since it differs between the files of the collection.

    Returns:
        None if the file is not a report on a CT, such as those on chest radiographs.

    Raises:
        ValueError: if the file is not XML, lacks a part, or has a malignancy outside 1 to 5.
    """
    file = Path(file)
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as e:
        raise ValueError(f"{file} is no readable XML ({e}); copy it anew.") from e
    if root.tag.rpartition("}")[2] != "LidcReadMessage":
        return None
    readings = (
        _read_nodule(nodule, reader, file)
        for reader, session in enumerate(root.iterfind("{*}readingSession"))
        for nodule in session.iterfind("{*}unblindedReadNodule")
        if len(nodule.find("{*}characteristics") or ()) > 0
    )
    return Report(file, _text(root, "ResponseHeader/SeriesInstanceUid", file), tuple(readings))


def _read_nodule(nodule: ElementTree.Element, reader: int, file: Path) -> Reading:
    name = _text(nodule, "noduleID", file)
    malignancy = nodule.findtext("{*}characteristics/{*}malignancy", default="nothing").strip()
    if malignancy not in {"1", "2", "3", "4", "5"}:
        raise ValueError(f"{file} gives nodule {name} the malignancy {malignancy!r}, not 1 to 5; correct it.")
    contours = tuple(
        Contour(
            instance_uid=_text(roi, "imageSOP_UID", file),
            included=_text(roi, "inclusion", file).upper() == "TRUE",
            points=_read_points(roi, file),
        )
        for roi in nodule.iterfind("{*}roi")
    )
    return Reading(file, reader, int(malignancy), contours)


def _read_points(roi: ElementTree.Element, file: Path) -> NDArray[np.int64]:
    edge = [[_text(point, axis, file) for axis in ("xCoord", "yCoord")] for point in roi.iterfind("{*}edgeMap")]
    if not edge:
        raise ValueError(f"{file} has a roi without edgeMap; copy it anew.")
    try:
        return np.array(edge).astype(np.int64)
    except ValueError as e:
        raise ValueError(f"{file} has an edgeMap whose coordinates are no whole numbers ({e}); copy it anew.") from e


def _text(element: ElementTree.Element, path: str, file: Path) -> str:
    """Return the text of an element that must be there, whatever its namespace."""
    text = (element.findtext("/".join(f"{{*}}{tag}" for tag in path.split("/"))) or "").strip()
    if not text:
        raise ValueError(f"{file} has no {path} in its {element.tag.rpartition('}')[2]}; copy it anew.")
    return text
