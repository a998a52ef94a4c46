from __future__ import annotations

from typing import Any

from pydicom.sr._concepts_dict import concepts

from med3d_components.data import DOMAINS_3DSEG8
from med3d_components.masks import class_color, mask_classes
from med3d_components.masks.classes import ABNORMAL, ANATOMY, FINDINGS, ORGANS, SIDES, TISSUE


def test_codes_are_those_that_dicom_has_for_their_meaning() -> None:
    known: dict[str, set[str]] = {}
    entries: dict[str, Any] = concepts["SCT"]
    for entry in entries.values():
        for code, (meaning, _) in entry.items():
            known.setdefault(code, set()).add(meaning)
    for code in (*ORGANS.values(), *FINDINGS.values(), *SIDES.values(), ANATOMY, ABNORMAL, TISSUE):
        assert code.meaning in known[code.value]


def test_every_class_of_the_public_domains_has_a_code_or_the_generic_one() -> None:
    classes = [each for facts in DOMAINS_3DSEG8.values() for each in mask_classes(facts.classes)]
    assert {each.name for each in classes if each.code == TISSUE} == {"Anterior", "Posterior"}


def test_names_are_read_in_any_case_and_spelling() -> None:
    names = ["background", "left_lung", "Right Lung", "Liver Tumour", "oedema", "left atrium", "my organ"]
    found = [(each.code.meaning, each.side.meaning if each.side else "") for each in mask_classes(names)]
    assert found == [
        ("Lung", "Left"),
        ("Lung", "Right"),
        ("Neoplasm", ""),
        ("Edema", ""),
        ("Left atrium", ""),
        ("Tissue", ""),
    ]


def test_no_two_of_a_hundred_classes_share_a_colour() -> None:
    assert len({class_color(value) for value in range(1, 101)}) == 100
