"""Which classes are taken from the labels: ``--classes``, or all that there are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple, NoReturn

from med3d_components.data.dataset_json import check_classes
from med3d_components.prepare.layouts import Layout
from med3d_components.prepare.pairing import same_form
from med3d_components.prepare.survey import Contents, Key, fold

__all__ = ["Choice", "choose_classes", "parse_classes"]

BACKGROUND = "background"
_SHOWN = 12
_EMPTY = "The labels have no value but 0, which is background; give labels that outline something."

Wanted = dict[str, list[str]]
"""Class to what it is made of: values, or names, as typed."""


class Choice(NamedTuple):
    """What is written of the labels.

    Attributes:
        classes: names, background first.
        targets: key to class; of keys with a value each, those left out are background or an error.
        strict: whether other keys are an error.
    """

    classes: tuple[str, ...]
    targets: dict[Key, int]
    strict: bool = False


def parse_classes(text: str | None) -> Wanted:
    """Read ``--classes``, such as ``liver=5,kidney=2+3`` or ``background,liver``.

    A name with a comma, a plus or an equals sign stands in double quotes.

    Example:
        >>> parse_classes('liver=5, kidneys=2+"kidney, left"')
        {'liver': ['5'], 'kidneys': ['2', 'kidney, left']}
        >>> parse_classes("background,liver")
        {'background': [], 'liver': []}
    """
    wanted: Wanted = {}
    text = text.strip() if text else ""
    listed = text[1:-1] if text.startswith("[") and text.endswith("]") else text  # as Python writes a list
    for item in _split(listed, ",") if text else ():
        name, *parts = _split(item, "=")
        name = _unquote(name)
        if len(parts) > 1 or name in wanted or (wanted and name == BACKGROUND):
            raise ValueError(
                f"--classes {text}: {item!r} is not clear; give each class once, as in liver=5,kidney=2+3."
            )
        wanted[name] = [_unquote(part) for part in _split(parts[0], "+")] if parts else []
    if "" in wanted or any("" in parts for parts in wanted.values()):
        raise ValueError(f"--classes {text}: a name is empty; give them as in liver=5,kidney=2+3.")
    return wanted


def choose_classes(wanted: Wanted, layout: Layout, found: Mapping[str, Contents]) -> Choice:
    """Return the classes, and what they are made of.

    Args:
        wanted: as :func:`parse_classes` returns it; all classes if empty.
        layout: of the cases.
        found: what their labels hold.

    Raises:
        ValueError: if the labels have no such class or no class at all, classes have one name or share a value, one
            that is wanted reaches outside its scan, or all were wanted and they overlap.
    """
    voxels: Counter[Key] = Counter()
    for contents in found.values():
        voxels.update(contents.voxels)
    numbered = BACKGROUND in wanted and not any(wanted.values())
    if numbered and not layout.names and not any(isinstance(key, str) for key in voxels):
        choice = Choice(tuple(wanted), {value: value for value in range(len(wanted))}, strict=True)
    elif wanted:
        choice = _pick(wanted, layout, voxels)
    else:
        choice = _take_all(layout, voxels)
        _check_capitals(choice)
    _check_whole(choice, found, everything=not wanted)
    if not voxels.total():
        raise ValueError(_EMPTY)
    if not wanted:
        _check_apart(choice, found, voxels)
    _check_once(choice, found)
    if len(choice.classes) < 2:
        raise ValueError("--classes names the background alone; add a class.")
    check_classes(choice.classes, "--classes" if wanted else "the labels")
    return choice


def _pick(wanted: Wanted, layout: Layout, voxels: Mapping[Key, int]) -> Choice:
    names: dict[str, list[Key]] = {key: [key] for key in voxels if isinstance(key, str)}
    names |= {same_form(name): [value] for value, name in layout.names.items()}
    names |= {same_form(name): list(values) for name, values in layout.parts.items()}
    values: dict[str, list[Key]] = {str(key): [key] for key in (*voxels, *layout.names) if isinstance(key, int)}
    targets: dict[Key, int] = {}
    classes = [BACKGROUND, *(name for name in wanted if name != BACKGROUND)]
    for name, tokens in wanted.items():
        for token in tokens or [name] * (name != BACKGROUND):
            keys = names.get(_spelling(token, names)) or values.get(token)
            if not keys and name == BACKGROUND and fold(token) in (BACKGROUND, "0"):
                continue  # which it is anyway
            for key in keys or _refuse(token, name, layout, voxels):
                if targets.setdefault(key, classes.index(name)) != classes.index(name):
                    raise ValueError(
                        f"--classes takes {token!r} for {classes[targets[key]]} and for {name}; choose one."
                    )
    return Choice(tuple(classes), targets)


def _spelling(token: str, names: Collection[str]) -> str:
    """Return a name as the labels spell it: just so, or else in other capitals; empty if there is none."""
    alike = [name for name in names if fold(name) == fold(token)]
    if same_form(token) in alike:
        return same_form(token)
    if len(alike) > 1:
        raise ValueError(f"--classes takes {token!r}, which may be {' or '.join(alike)}; spell it as one of them.")
    return alike[0] if alike else ""


def _refuse(token: str, name: str, layout: Layout, voxels: Mapping[Key, int]) -> NoReturn:
    """Say that there is nothing of this name or value, and what there is."""
    known = [*layout.names.values(), *layout.parts, *sorted(map(str, set(voxels) - set(layout.names)))]
    if not known:
        raise ValueError(_EMPTY)
    listed = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    masks = any(label.name for case in layout.cases.values() for label in case.labels)
    lacking = f"No mask is called {token}" if masks else f"No label has {token!r}"
    purpose = "" if token == name else f", of which --classes makes {name}"
    raise ValueError(f"{lacking}{purpose}; there is {listed}; name them, or rename them as in organ={known[0]}.")


def _take_all(layout: Layout, voxels: Mapping[Key, int]) -> Choice:
    """Return all classes: those of a dataset.json, or those that have a voxel in any case."""
    keys = [key for key, count in voxels.items() if count]
    if layout.unlabelled in keys:
        raise ValueError(
            f"Label value {layout.unlabelled} stands for voxels that nobody labelled, and training has no such class; "
            "leave those cases out, or name the classes in --classes, which makes it background."
        )
    if layout.names or layout.parts:
        return _take_named(layout)
    kinds = {type(key) for key in keys}
    if len(kinds) > 1:
        raise ValueError("Some labels name their classes and others do not; say with --classes what belongs together.")
    if kinds == {int}:
        keys.sort()
    classes = (BACKGROUND, *(key if isinstance(key, str) else f"class {key}" for key in keys))
    return Choice(classes, {key: index for index, key in enumerate(keys, start=1)}, strict=kinds == {int})


def _take_named(layout: Layout) -> Choice:
    classes: list[tuple[str, tuple[int, ...]]] = [(name, (value,)) for value, name in sorted(layout.names.items())]
    classes += layout.parts.items()
    owners = Counter(value for _, values in classes for value in values)
    if owners and max(owners.values()) > 1:
        listed = ", ".join(f"{name}={'+'.join(map(str, values))}" for name, values in classes)
        raise ValueError(
            f"dataset.json has classes that share label values ({listed}), but a voxel has one class here; "
            "give --classes in which each value comes once."
        )
    targets: dict[Key, int] = {v: index for index, (_, values) in enumerate(classes, start=1) for v in values}
    return Choice((BACKGROUND, *(name for name, _ in classes)), targets, strict=True)


def _check_capitals(choice: Choice) -> None:
    """Refuse names of a dataset.json that are one to whoever names a class."""
    spelt: dict[str, str] = {}
    for name in choice.classes:
        if (other := spelt.setdefault(fold(name), name)) != name:
            raise ValueError(
                f"dataset.json has the classes {other} and {name}, whose names differ in capitals or blanks alone; "
                f'give them others, as in --classes one="{other}",two="{name}".'
            )


def _check_whole(choice: Choice, found: Mapping[str, Contents], everything: bool) -> None:
    """Refuse a class that reaches outside its scan, where it is cut off."""
    for case, contents in found.items():
        for key, (path, distance) in contents.cut.items():
            if everything or choice.targets.get(key):
                raise ValueError(
                    f"{case}: {key} in {path} reaches {distance:.3g} mm outside its scan, so it belongs to another "
                    "one, or was moved; export it anew, leave the case out, or give --classes without it."
                )


def _check_once(choice: Choice, found: Mapping[str, Contents]) -> None:
    """Refuse a class that two files of a case outline, as two versions of a structure set do."""
    for case, contents in found.items():
        for key, files in contents.outlines.items():
            if choice.targets.get(key) and len(files) > 1:
                raise ValueError(f"{case}: {key} is outlined in {' and in '.join(map(str, files))}; move one away.")


def _check_apart(choice: Choice, found: Mapping[str, Contents], voxels: Mapping[Key, int]) -> None:
    """Refuse classes that overlap, since nobody said which one is to be seen."""
    for case, contents in found.items():
        for first, second in sorted(contents.overlaps, key=str):
            order = sorted((key for key in choice.targets if voxels[key]), key=lambda key: -voxels[key])
            listed = ",".join(f'"{key}"' if re.search(r"[,+= ]", str(key)) else str(key) for key in order[:_SHOWN])
            more = ",..." if len(order) > _SHOWN else ""
            raise ValueError(
                f"{case}: {first} and {second} overlap. Name the classes to take, each covering those before it, as in "
                f"--classes '{listed}{more}'."
            )


def _split(text: str, sign: str) -> list[str]:
    """Split at a sign that stands in no quotes.

    Example:
        >>> _split('a,"b,c"', ",")
        ['a', '"b,c"']
    """
    pieces = [""]
    quoted = False
    for letter in text:
        quoted ^= letter == '"'
        if letter == sign and not quoted:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def _unquote(text: str) -> str:
    return text.strip().strip("\"'").strip()
