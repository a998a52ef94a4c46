from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from med3d_components.prepare.class_choice import Choice, choose_classes, parse_classes
from med3d_components.prepare.layouts import CaseSource, LabelSource, Layout
from med3d_components.prepare.survey import Contents, Key

PLAIN = Layout("plain", {})
NAMED = Layout("task", {}, names={1: "liver", 2: "tumour", 4: "left kidney"})


def case(*overlaps: tuple[Key, Key], **voxels: int) -> dict[str, Contents]:
    counts: Counter[Key] = Counter({int(key[1:]) if key[1:].isdigit() else key: n for key, n in voxels.items()})
    return {"a": Contents(voxels=counts, overlaps=set(overlaps))}


VALUES = case(v1=5, v2=3, v4=9)
CAPITALS = Layout("task", {}, names={1: "a", 2: "A"})
MASKS = Layout("masks", {"p": CaseSource((Path("ct.nii"),), (LabelSource(Path("liver.nii"), "liver"),))})
NAMES = case(Liver=50, GTV=4, body=900, empty=0)


@pytest.mark.parametrize(
    ("text", "layout", "found", "classes", "targets"),
    [
        (None, PLAIN, VALUES, "class 1,class 2,class 4", {1: 1, 2: 2, 4: 3}),
        ("liver=4,rest=1+2", PLAIN, VALUES, "liver,rest", {4: 1, 1: 2, 2: 2}),
        ("background=2,liver=4", PLAIN, VALUES, "liver", {2: 0, 4: 1}),
        ("background,liver,tumour", PLAIN, VALUES, "liver,tumour", {0: 0, 1: 1, 2: 2}),
        (None, NAMED, VALUES, "liver,tumour,left kidney", {1: 1, 2: 2, 4: 3}),
        ("left kidney", NAMED, VALUES, "left kidney", {4: 1}),
        ("background,left kidney", NAMED, VALUES, "left kidney", {4: 1}),
        ("organ=liver+4", NAMED, VALUES, "organ", {1: 1, 4: 1}),
        (None, PLAIN, NAMES, "Liver,GTV,body", {"Liver": 1, "GTV": 2, "body": 3}),
        ("liver,tumour=gtv", PLAIN, NAMES, "liver,tumour", {"Liver": 1, "GTV": 2}),
        ("x=a", CAPITALS, VALUES, "x", {1: 1}),
        ("x=A", CAPITALS, VALUES, "x", {2: 1}),
        ("A,a", CAPITALS, VALUES, "A,a", {2: 1, 1: 2}),
        ("background=0,x=2", PLAIN, VALUES, "x", {2: 1}),
        ("background=0+4,x=2", PLAIN, VALUES, "x", {4: 0, 2: 1}),
        ("background=background,liver=liver", NAMED, VALUES, "liver", {1: 1}),
        ('organ="Liver"+ gtv ', PLAIN, NAMES, "organ", {"Liver": 1, "GTV": 1}),
    ],
)
def test_classes_are_picked_joined_and_named(
    text: str | None, layout: Layout, found: dict[str, Contents], classes: str, targets: dict[Key, int]
) -> None:
    choice = choose_classes(parse_classes(text), layout, found)
    assert choice.classes == ("background", *classes.split(","))
    assert choice.targets == targets


def test_only_picking_makes_others_background() -> None:
    strict = [choose_classes(parse_classes(text), PLAIN, VALUES).strict for text in (None, "background,a", "a=1")]
    assert strict == [True, True, False]


@pytest.mark.parametrize(
    ("text", "layout", "found", "reason"),
    [
        ("liver=7", PLAIN, VALUES, "No label has '7', of which --classes makes liver; there is 1, 2, 4; name them"),
        ("x=0", PLAIN, VALUES, "No label has '0', of which --classes makes x"),
        ("liver", PLAIN, VALUES, "No label has 'liver'; there is 1, 2, 4"),
        ("spleen", PLAIN, NAMES, "No label has 'spleen'; there is GTV, Liver, body, empty; .*as in organ=GTV"),
        ("spleen", MASKS, case(liver=0, kidney=0), "^No mask is called spleen; there is kidney, liver; name them"),
        ("x=spleen", MASKS, case(liver=0), "^No mask is called spleen, of which --classes makes x; there is liver"),
        ("liver=1", PLAIN, case(), "The labels have no value but 0"),
        ("liver", MASKS, case(liver=0), "The labels have no value but 0"),
        (
            "x=LIVER",
            Layout("t", {}, names={1: "Liver", 2: "liver"}),
            VALUES,
            "takes 'LIVER', which may be Liver or liver;",
        ),
        (
            None,
            CAPITALS,
            VALUES,
            'dataset.json has the classes a and A, whose names differ in capitals .*--classes one="a",two="A"',
        ),
        ("a=1,b=1", PLAIN, VALUES, "--classes takes '1' for a and for b; choose one"),
        ("a=1,case=2", PLAIN, VALUES, "--classes: a class is called 'case'"),
        ("background", PLAIN, VALUES, "names the background alone"),
        (None, PLAIN, case(v0=0), "The labels have no value but 0"),
        (None, PLAIN, case(v1=2, liver=3), "Some labels name their classes and others do not"),
        (None, Layout("t", {}, names={1: "a"}, unlabelled=4), VALUES, "Label value 4 stands for voxels that nobody"),
        (None, Layout("t", {}, names={1: "a"}, parts={"b": (1, 2)}), VALUES, r"share label values \(a=1, b=1\+2\)"),
    ],
)
def test_a_choice_that_cannot_be_gets_one_line(
    text: str | None, layout: Layout, found: dict[str, Contents], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        choose_classes(parse_classes(text), layout, found)


def test_a_class_that_is_cut_off_at_the_end_of_its_scan_is_refused_where_it_is_wanted() -> None:
    found = case(Liver=50, couch=0)
    found["a"].cut["couch"] = Path("rt.dcm"), 61.25
    reason = r"^a: couch in rt.dcm reaches 61.2 mm outside its scan, .* or give --classes without it.$"
    for text in (None, "couch", "x=Liver+couch"):
        with pytest.raises(ValueError, match=reason):
            choose_classes(parse_classes(text), PLAIN, found)
    for text in ("liver", "background=couch,liver"):
        assert choose_classes(parse_classes(text), PLAIN, found).classes == ("background", "liver")


def test_regions_that_share_no_value_are_joined_values() -> None:
    layout = Layout("t", {}, names={4: "a"}, parts={"b": (1, 2)})
    choice = choose_classes({}, layout, VALUES)
    assert choice == Choice(("background", "a", "b"), {4: 1, 1: 2, 2: 2}, strict=True)


def test_all_classes_are_not_taken_where_they_overlap_and_an_order_is_proposed() -> None:
    found = case(("Liver", "body"), **{"Liver": 50, "GTV": 4, "body": 900})
    with pytest.raises(ValueError, match=r"a: Liver and body overlap. .*--classes 'body,Liver,GTV'"):
        choose_classes({}, PLAIN, found)
    assert choose_classes(parse_classes("body,Liver"), PLAIN, found).classes == ("background", "body", "Liver")


@pytest.mark.parametrize("text", ["a=1=2", "a=1,a=2", "a,background", "a=,b", "a=1+,b", ",", "=3"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--classes .* (is not clear|a name is empty)"):
        parse_classes(text)


def test_a_list_as_python_writes_it_is_read() -> None:
    assert list(parse_classes("['background', 'right lung']")) == ["background", "right lung"]
