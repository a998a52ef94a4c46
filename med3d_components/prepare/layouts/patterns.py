"""Cases by names: a pattern such as ``{case}/ct.nii.gz``, a table, or one pair of files."""

from __future__ import annotations

import csv
import glob
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from med3d_components.data.dataset_json import path_on_disk
from med3d_components.data.scan import ENDINGS, case_name
from med3d_components.prepare.layouts.base import CaseSource, LabelSource, Layout
from med3d_components.prepare.pairing import same_form

__all__ = ["CASE", "CLASS", "organ_masks", "pattern_layout", "read_table", "single_case"]

CASE, CLASS = "{case}", "{class}"
_PARTS = re.compile(r"(\{case\}|\{class\}|\*)")
_COLUMNS = ("image", "label")


def pattern_layout(images: str, labels: str, title: str = "files named by patterns") -> Layout:
    """Find the cases whose files match two patterns.

    ``{case}`` stands for the name of the case, the same in both patterns and wherever it comes again; ``{class}``, in
    ``labels``, for the name of the class that a file is the mask of; ``*`` for anything. None goes beyond a slash.

    Args:
        images: pattern of the images' paths: files, or folders of a DICOM series.
        labels: pattern of the labels' paths.
        title: of the layout.

    Raises:
        FileNotFoundError: if nothing matches, or an image has no label or the other way round.
        ValueError: if ``{case}`` is missing, or two images match for one case.

    Example:
        >>> spleen = "3DSeg-8/Task09_Spleen"
        >>> layout = pattern_layout(f"{spleen}/imagesTr/{{case}}.nii.gz", f"{spleen}/labelsTr/{{case}}.nii.gz")
        >>> layout.cases["case_1"].images
        (PosixPath('3DSeg-8/Task09_Spleen/imagesTr/case_1.nii.gz'),)
    """
    for pattern in (images, labels):
        if CASE not in pattern:
            raise ValueError(
                f"The pattern {pattern} has no {CASE}, which stands for the name of the case; write it in."
            )
    if CLASS in images:
        raise ValueError(f"The pattern of the images, {images}, has a {CLASS}, but an image is of all classes.")
    found = {case: files[""] for case, files in _match(images).items()}
    masks = _match(labels, sorted(found, key=len, reverse=True))
    marked = {path for files in masks.values() for path in files.values()}
    found = {case: path for case, path in found.items() if path not in marked}  # {case}.nii matches a_seg.nii as well
    for case in sorted(found.keys() ^ masks.keys()):
        missing = (labels if case in found else images).replace(CASE, case)
        raise FileNotFoundError(f"There is no {missing}; add it, or move the other files of the case {case} away.")
    return Layout(title, {case: CaseSource((image,), _label_sources(masks[case])) for case, image in found.items()})


def _label_sources(files: Mapping[str, Path]) -> tuple[LabelSource, ...]:
    return tuple(LabelSource(path, name) for name, path in sorted(files.items()))


def organ_masks(images: Path, masks: Path) -> Layout:
    """Return one case: an image, and a folder of masks that are named by their class."""
    files = [path for path in sorted(masks.iterdir()) if path.name.lower().endswith(ENDINGS) and path.name[0] != "."]
    if not files:
        raise FileNotFoundError(
            f"{masks} holds no mask; give a folder of {', '.join(ENDINGS)} files, one for each class."
        )
    sources = tuple(LabelSource(path, same_form(case_name(path))) for path in files)
    return Layout("one image and a mask for each class", {case_name(images): CaseSource((images,), sources)})


def single_case(image: Path, label: Path) -> Layout:
    """Return one case of an image and its label."""
    return Layout("one image and its label", {case_name(image): CaseSource((image,), (LabelSource(label),))})


def read_table(path: Path) -> Layout:
    """Read pairs from a CSV with the columns ``image`` and ``label``, and maybe ``case``; others are left alone.

    Args:
        path: of the table, with commas, semicolons or tabs. The paths in it start at its folder.

    Raises:
        FileNotFoundError: if the table, or a file that it names, does not exist.
        ValueError: if a column is missing, a field is empty, or two rows are of one case.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise ValueError(f"{path} is not encoded in UTF-8; save it as CSV UTF-8.") from e
    head = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max(",;\t", key=head.count))
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
    if missing := [name for name in _COLUMNS if name not in reader.fieldnames]:
        raise ValueError(f"{path} has no column {' and no column '.join(missing)}; its first line must name them.")
    cases: dict[str, CaseSource] = {}
    for number, row in enumerate(reader, start=2):
        texts = [(row[name] or "").strip() for name in _COLUMNS]
        if "" in texts:
            raise ValueError(f"{path}, line {number}: image or label is empty; fill it in, or delete the line.")
        image, label = (path_on_disk(path.parent / text) for text in texts)
        for file in (image, label):
            if not file.exists():
                raise FileNotFoundError(f"{file} does not exist, but {path}, line {number} names it; mend the line.")
        case = same_form((row.get("case") or "").strip() or case_name(image))
        if case in cases:
            raise ValueError(f"{path}, line {number}: there is another case {case}; give names in a column case.")
        cases[case] = CaseSource((image,), (LabelSource(label),))
    if not cases:
        raise ValueError(f"{path} has no row; give an image and a label in each.")
    return Layout("pairs of a table", cases)


def _match(pattern: str, cases: Sequence[str] = ()) -> dict[str, dict[str, Path]]:
    """Return case to class to path of what matches; the class is empty in a pattern without one.

    The names in ``cases`` come before others, where a path can be read in several ways.
    """
    names = {CASE: "|".join([*map(re.escape, cases), "[^/]+?"]), CLASS: "[^/]+?"}
    expression, wildcard = "", ""
    for piece in _PARTS.split(pattern):
        if name := names.get(piece):
            group = piece.strip("{}")
            expression += f"(?P={group})" if f"<{group}>" in expression else f"(?P<{group}>{name})"
        else:
            expression += "[^/]*" if piece == "*" else re.escape(same_form(piece))
        wildcard += "*" if _PARTS.fullmatch(piece) else glob.escape(piece)
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(glob.glob(wildcard)):
        if match := re.fullmatch(expression, same_form(path)):
            parts = match.groupdict()
            others = found[parts["case"]]
            if (name := parts.get("class", "")) in others:
                raise ValueError(f"{path} and {others[name]} match {pattern} for one case; make the pattern narrower.")
            others[name] = Path(path)
    if not found:
        raise FileNotFoundError(f"Nothing matches {pattern}; {CASE} stands for one part of a path, and * for anything.")
    return dict(found)
