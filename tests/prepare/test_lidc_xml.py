from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from med3d_components.prepare.lidc_xml import Contour, Report, read_report
from tests.data.dicom_files import WrittenSeries
from tests.prepare.lidc_files import nodule, report, roi, rois, small, sphere

SERIES = WrittenSeries("1.2", [f"1.2.{number + 1}" for number in range(24)])
ROIS = rois(sphere(), SERIES)


def read(folder: Path, content: str, name: str = "069.xml") -> Report:
    (folder / name).write_text(content, encoding="utf-8")
    found = read_report(folder / name)
    assert found is not None
    return found


def test_each_nodule_of_3_mm_or_more_is_a_reading(tmp_path: Path) -> None:
    found = read(tmp_path, report("1.2", [small(SERIES) + nodule(ROIS, 2), "", nodule(ROIS, 5, "IL057_1")]))
    assert [(x.reader, x.name, x.malignancy) for x in found.readings] == [(0, "Nodule 001", 2), (2, "IL057_1", 5)]
    assert found.series_uid == "1.2"
    assert not found.left_out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<LidcReadMessage", r"069\.xml is no readable XML"),
        ("<LidcReadMessage/>", r"069\.xml has no ResponseHeader/SeriesInstanceUid in its LidcReadMessage"),
        (report("1.2", [nodule(ROIS).replace("<noduleID>Nodule 001</noduleID>", "")]), r"has no noduleID"),
        (report("1.2", [nodule(roi("1.2.1", []))]), r"069\.xml has a roi without edgeMap"),
        (report("1.2", [nodule(roi("1.2.1", [("a", 1)]))]), r"069\.xml has an edgeMap whose coordinates are no whole"),  # type: ignore[list-item]
        (report("1.2", [nodule(roi("1.2.1", [(1, 1)])).replace("-50.0", "low")]), r"the imageZposition 'low', which"),
    ],
    ids=["cut off", "no series", "no name", "no edge", "no number", "no height"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize("malignancy", ["0", "6", "high"])
def test_a_malignancy_outside_1_to_5_is_named(tmp_path: Path, malignancy: str) -> None:
    message = rf"069\.xml gives nodule Nodule 001 of reader 2 the malignancy '{malignancy}', not 1 to 5"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, report("1.2", ["", nodule(ROIS, malignancy)]))


@pytest.mark.parametrize("absent", ["<malignancy>3</malignancy>", "3</malignancy>"])
def test_a_malignancy_that_is_missing_is_said_in_plain_words(tmp_path: Path, absent: str) -> None:
    content = report("1.2", [nodule(ROIS)]).replace(absent, "</malignancy>" if absent.startswith("3") else "")
    with pytest.raises(ValueError, match=r"069\.xml gives nodule Nodule 001 of reader 1 no malignancy; correct it"):
        read(tmp_path, content)


def test_a_point_of_malignancy_0_is_left_out_with_a_line(tmp_path: Path) -> None:
    point = nodule(roi(SERIES.instance_uids[5], [(9, 9)]), 0, "5117")
    found = read(tmp_path, report("1.2", [nodule(ROIS, 4) + point]))
    assert [x.malignancy for x in found.readings] == [4]
    (line,) = found.left_out
    assert line.endswith(
        "069.xml: nodule 5117 of reader 1 is a point, as of a nodule below 3 mm, of malignancy 0; it is left out."
    )


def test_a_nodule_that_was_outlined_but_not_rated_is_left_out_with_a_line(tmp_path: Path) -> None:
    outlined = f"<unblindedReadNodule><noduleID>8</noduleID>{ROIS}</unblindedReadNodule>"
    empty = f"<unblindedReadNodule><noduleID>9</noduleID><characteristics/>{ROIS}</unblindedReadNodule>"
    found = read(tmp_path, report("1.2", [nodule(ROIS), outlined + empty]))
    assert len(found.readings) == 1
    assert [line.partition("069.xml: ")[2] for line in found.left_out] == [
        f"nodule {name} of reader 2 is outlined, but has no malignancy or any other score; it is left out."
        for name in (8, 9)
    ]


def test_equal_readings_are_equal_whatever_the_bytes_are(tmp_path: Path) -> None:
    seen = [nodule(ROIS, 2, "1"), nodule(rois(sphere((20, 20, 5), 4), SERIES), 4, "2")]
    one = read(tmp_path, report("1.2", [seen[0] + seen[1], seen[0]]), "a.xml")
    renamed = [seen[0].replace("<noduleID>1<", "<noduleID>x<"), seen[1] + seen[0]]
    assert one.same_readings(read(tmp_path, report("1.2", renamed, namespace=""), "b.xml"))


@pytest.mark.parametrize(
    "sessions",
    [
        [nodule(ROIS, 2), nodule(ROIS, 4)],
        [nodule(ROIS, 3)],
        [nodule(ROIS, 2), nodule(ROIS, 3), nodule(ROIS, 3)],
        [nodule(ROIS, 2) + nodule(ROIS, 3)],
        [nodule(ROIS, 2), nodule(rois(sphere((31, 26, 12)), SERIES), 3)],
    ],
    ids=["score", "less", "more", "one reader", "outline"],
)
def test_other_readings_are_not_equal(tmp_path: Path, sessions: list[str]) -> None:
    one = read(tmp_path, report("1.2", [nodule(ROIS, 2), nodule(ROIS, 3)]), "a.xml")
    assert not one.same_readings(read(tmp_path, report("1.2", sessions), "b.xml"))
    assert not one.same_readings(read(tmp_path, report("1.3", [nodule(ROIS, 2), nodule(ROIS, 3)]), "c.xml"))


def test_points_with_gaps_between_them_enclose_what_lies_within() -> None:
    corners = Contour("1.2.3", 0, True, ((5, 5), (15, 5), (15, 15), (5, 15)))
    np.testing.assert_array_equal(corners.pixels(), np.argwhere(np.ones((9, 9))) + 6)
    assert len(corners._replace(included=False).pixels()) == 11 * 11
