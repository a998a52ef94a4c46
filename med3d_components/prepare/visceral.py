"""Import the lungs of VISCERAL Anatomy3, which needs a licence: the data must not be passed on.

A volume is called patient_scan_modality_region, such as ``10000100_1_CTce_ThAb.nii.gz``; a segmentation is called after
its volume, the outlined structure's RadLex id and the annotator's id, such as ``10000100_1_CTce_ThAb_1302_7.nii.gz``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from med3d_components.data.domains import DomainFacts
from med3d_components.data.scan import case_name
from med3d_components.prepare.importing import CaseFiles, LabelFile, import_cases
from med3d_components.prepare.pairing import find_files, name_files

__all__ = ["import_visceral"]

LUNGS = {1302: "right lung", 1326: "left lung"}
"""RadLex id to name, in the order of the classes."""

_NAME = re.compile(r"(\d+_\d+_[A-Za-z0-9]+_[A-Za-z]+)(?:_(\d+)_(\d+))?")

Outlines = dict[int, dict[int, Path]]
"""RadLex id to annotator to file."""


def import_visceral(source: str | os.PathLike[str], folder: str | os.PathLike[str], sides: bool = True) -> bool:
    """Write the volumes with both lungs outlined as the folder of a domain.

    Prints which volumes are skipped because a lung is not outlined, and whose outline is taken, that of the lowest
    annotator id, where there are several.

    Args:
        source: folder with volumes and segmentations at any depth.
        folder: to write.
        sides: whether the right lung is class 1 and the left lung class 2; if false, both are class 1, "lung".

    Returns:
        Whether anything was written: False if the same files have been imported there before.

    Raises:
        FileNotFoundError: if there are no files of such names, or there is a segmentation without its volume.
        ValueError: if no volume has both lungs outlined, and as :func:`import_cases`.
        FileExistsError: if the folder holds anything else.

    Example:
        >>> import_visceral("downloads/VISCERAL", "data/VISCERAL_Lungs")
        True
    """
    volumes, outlines = _find(source)
    facts = DomainFacts(
        modality="CT and MRI",
        target="lungs",
        classes=("background", *(LUNGS.values() if sides else ("lung",))),
        source="VISCERAL Anatomy3",
        licence="VISCERAL data agreement; not for redistribution",
    )
    cases = {}
    for name, image in volumes.items():
        found = outlines.get(name, {})
        missing = [lung for structure, lung in LUNGS.items() if structure not in found]
        if missing:
            print(f"{name} is skipped: its {' and its '.join(missing)} {'are' if missing[1:] else 'is'} not outlined.")
            continue
        files = [_choose(name, structure, found[structure]) for structure in LUNGS]
        targets = (1, 2) if sides else (1, 1)
        labels = (LabelFile(file, {0: 0, 1: x, 255: x}) for file, x in zip(files, targets, strict=True))
        cases[name] = CaseFiles((image,), tuple(labels))
    if not cases:
        raise ValueError(f"No volume in {source} has both lungs outlined; give the folder of the unpacked download.")
    return import_cases(folder, facts, cases)


def _find(source: str | os.PathLike[str]) -> tuple[dict[str, Path], dict[str, Outlines]]:
    """Return the volumes by name, and the outlines of their lungs."""
    named = [path for path in find_files(source, "*.nii*") if _NAME.fullmatch(case_name(path))]
    volumes: dict[str, Path] = {}
    outlines: dict[str, Outlines] = {}
    for name, path in name_files(named, case_name).items():
        volume, structure, annotator = _NAME.findall(name)[0]
        if not structure:
            volumes[name] = path
        elif int(structure) in LUNGS:
            outlines.setdefault(volume, {}).setdefault(int(structure), {})[int(annotator)] = path
    _check_volumes(volumes, outlines)
    return volumes, outlines


def _check_volumes(volumes: Mapping[str, Path], outlines: Mapping[str, Outlines]) -> None:
    for name in outlines:
        if name not in volumes:
            raise FileNotFoundError(
                f"The lungs of {name} are outlined, but there is no {name}.nii.gz; add it, or move its segmentations "
                "out of the source folder."
            )


def _choose(name: str, structure: int, files: Mapping[int, Path]) -> Path:
    annotators = sorted(files)
    if len(annotators) > 1:
        several = ", ".join(map(str, annotators))
        print(f"{name}: annotators {several} outlined the {LUNGS[structure]}; that of {annotators[0]} is taken.")
    return files[annotators[0]]
