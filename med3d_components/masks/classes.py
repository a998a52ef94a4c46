"""The classes of a mask as other programs know them: names, colours and codes."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from med3d_components.utils import atomic_path

__all__ = [
    "Code",
    "MaskClass",
    "class_color",
    "file_part",
    "mask_classes",
    "write_color_table",
    "write_label_description",
]

PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
"""Okabe and Ito's colours, which the colour-blind tell apart, too, and which stand out on grey."""


class Code(NamedTuple):
    """A concept of SNOMED CT."""

    value: str
    meaning: str


ANATOMY = Code("91723000", "Anatomical Structure")
ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "Tissue")
SIDES = {"left": Code("7771000", "Left"), "right": Code("24028007", "Right")}
FINDINGS = {
    "tumor": Code("108369006", "Neoplasm"),
    "cancer": Code("108369006", "Neoplasm"),
    "lesion": Code("52988006", "Lesion"),
    "nodule": Code("27925004", "Nodule"),
    "edema": Code("79654002", "Edema"),
}
ORGANS = {
    "lung": Code("39607008", "Lung"),
    "lungs": Code("39607008", "Lung"),
    "liver": Code("10200004", "Liver"),
    "spleen": Code("78961009", "Spleen"),
    "pancreas": Code("15776009", "Pancreas"),
    "kidney": Code("64033007", "Kidney"),
    "kidneys": Code("64033007", "Kidney"),
    "hippocampus": Code("5366008", "Hippocampus"),
    "prostate": Code("41216001", "Prostate"),
    "pz": Code("279706003", "Peripheral zone of the prostate"),
    "tz": Code("399384005", "Transition zone of the prostate"),
    "atrium": Code("59652004", "Atrium"),
    "left atrium": Code("82471001", "Left atrium"),
    "right atrium": Code("73829009", "Right atrium"),
    "vessel": Code("59820001", "Blood Vessel"),
    "hepatic vessel": Code("59820001", "Blood Vessel"),
    "colon": Code("71854001", "Colon"),
    "brain": Code("12738006", "Brain"),
}


class MaskClass(NamedTuple):
    """A class of a mask.

    Attributes:
        value: of its voxels.
        name: as the model's settings have it.
        color: red, green and blue from 0 to 255.
        category: what kind of thing it is.
        code: what it is; the generic "Tissue", with "Tissue" as its category, where the name is not known.
        side: of a paired organ.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    category: Code
    code: Code
    side: Code | None = None


def mask_classes(names: Sequence[str]) -> list[MaskClass]:
    """Describe all classes but the background.

    Args:
        names: of the classes in the order of their values, background first.

    Example:
        >>> for each in mask_classes(["background", "left lung", "liver tumour", "Anterior"]):
        ...     print(each.value, each.color, each.code.meaning, each.side.meaning if each.side else "")
        1 (230, 159, 0) Lung Left
        2 (86, 180, 233) Neoplasm
        3 (0, 158, 115) Tissue
    """
    return [
        MaskClass(value, " ".join(name.split()), class_color(value), *_codes(name))
        for value, name in enumerate(names)
        if value
    ]


def file_part(name: str) -> str:
    """Return the name of a class as a part of a file's name.

    Example:
        >>> file_part("non-enhancing tumor")
        'non-enhancing_tumor'
    """
    return re.sub(r"[^\w-]+", "_", name)


def class_color(value: int) -> tuple[int, int, int]:
    """Return the colour of a class by its value, 1 or more: the same in pictures, tables and files."""
    if value <= len(PALETTE):
        return PALETTE[value - 1]
    # Steps of the golden ratio keep any number of hues apart.
    red, green, blue = colorsys.hsv_to_rgb(value * 0.618034 % 1, 0.7, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def write_color_table(path: Path, classes: Sequence[MaskClass]) -> None:
    """Write a colour table of 3D Slicer, which reads an underscore as a blank."""
    rows = ["0 background 0 0 0 0"]
    rows += [f"{each.value} {each.name.replace(' ', '_')} {_join(each.color)} 255" for each in classes]
    _write(path, [f"# Color table file {path.name}", f"# {len(rows)} values", *rows])


def write_label_description(path: Path, classes: Sequence[MaskClass]) -> None:
    """Write a label description file of ITK-SNAP."""
    rows = ['0 0 0 0 0 0 0 "Clear Label"']
    rows += [f'{each.value} {_join(each.color)} 1 1 1 "{each.name.replace(chr(34), chr(39))}"' for each in classes]
    columns = "# index, red, green, blue, opacity, visible, visible in 3-D, name"
    _write(path, ["# ITK-SnAP Label Description File", columns, *rows])


def _codes(name: str) -> tuple[Code, Code, Code | None]:
    words = name.lower().replace("tumour", "tumor").replace("oedema", "edema").replace("_", " ").split()
    side = next((SIDES[word] for word in words if word in SIDES), None)
    if finding := next((FINDINGS[word] for word in words if word in FINDINGS), None):
        return ABNORMAL, finding, side
    if organ := ORGANS.get(" ".join(words)):
        return ANATOMY, organ, None
    if organ := ORGANS.get(" ".join(word for word in words if word not in SIDES)):
        return ANATOMY, organ, side
    return TISSUE, TISSUE, None


def _join(color: Sequence[int]) -> str:
    return " ".join(map(str, color))


def _write(path: Path, lines: Sequence[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
