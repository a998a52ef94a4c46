"""Import scans and labels in any layout that people have as one domain."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping

from med3d_components.data.domains import DomainFacts
from med3d_components.data.volumes import open_scan
from med3d_components.prepare.class_choice import Choice, choose_classes, parse_classes
from med3d_components.prepare.importing import CaseFiles, LabelFile, import_cases
from med3d_components.prepare.layouts import CaseSource, Layout
from med3d_components.prepare.survey import Contents, Key, survey

__all__ = ["import_layout"]

_SHOWN = 5
_LINES = 20


def import_layout(folder: str | os.PathLike[str], layout: Layout, classes: str | None = None) -> bool:
    """Write the cases of a layout as the folder of a domain, and print what becomes of which class.

    All labels are read before the first case is written, so that a class that is missing, or overlaps with another,
    is known.

    Args:
        folder: to write.
        layout: of the source.
        classes: as :func:`parse_classes` reads it; all classes when None.

    Returns:
        Whether anything was written, see :func:`import_cases`.

    Raises:
        ValueError: if the labels do not have these classes, or cannot be read, cases cannot be called so, and as
            :func:`import_cases`.
        FileExistsError: if the folder holds anything else.

    Example:
        >>> from pathlib import Path
        >>> from med3d_components.prepare.layouts import find_layout
        >>> import_layout("data/spleen", find_layout(Path("3DSeg-8/Task09_Spleen")), "spleen=1")
        Label value 1 is written as 1: spleen.
        True
    """
    _check_names(layout.cases)
    wanted = parse_classes(classes)
    found = survey(layout.cases, [token for name, tokens in wanted.items() for token in tokens or [name]])
    choice = choose_classes(wanted, layout, found)
    for line in (*_written(choice), *_left_out(choice, found), *_absent(choice, found), *_covered(choice, found)):
        print(line)
    facts = DomainFacts(
        modality="not stated",
        target=", ".join(choice.classes[1:]),
        classes=choice.classes,
        source=layout.source,
        licence=layout.licence,
        channels=layout.channels or _name_channels(layout),
        channel=layout.channel,
    )
    return import_cases(
        folder, facts, {name: _case_files(case, found[name], choice) for name, case in layout.cases.items()}
    )


def _check_names(cases: Iterable[str]) -> None:
    """Refuse names of cases that would be one, or hidden, as names of files."""
    owners: dict[str, str] = {}
    for case in cases:
        name = case.replace("/", "_")
        if name.startswith("."):
            raise ValueError(f"The case {case} would become a hidden file, {name}.nii.gz; give it another name.")
        if (other := owners.setdefault(name, case)) != case:
            raise ValueError(f"The cases {other} and {case} would both be called {name}; rename one.")


def _case_files(case: CaseSource, contents: Contents, choice: Choice) -> CaseFiles:
    """Return the files of a case with label value in each to class."""
    declared = {key: target for key, target in choice.targets.items() if isinstance(key, int)}
    files = []
    for source, keys in zip(case.labels, contents.files, strict=True):
        if keys is not None:
            taken = declared if choice.strict else {value: choice.targets.get(key, 0) for value, key in keys.items()}
            files.append(LabelFile(source.path, {0: 0, **taken}))
    return CaseFiles(case.images, tuple(files))


def _name_channels(layout: Layout) -> tuple[str, ...]:
    """Return names for the channels of the first case."""
    images = next(iter(layout.cases.values())).images
    count = sum(open_scan(path, need_spacing=False).channels for path in images)
    return ("image",) if count == 1 else tuple(f"channel {number}" for number in range(count))


def _called(key: Key) -> str:
    return f"Label value {key}" if isinstance(key, int) else key


def _written(choice: Choice) -> Iterable[str]:
    for key, target in choice.targets.items():
        yield f"{_called(key)} is written as {target}: {choice.classes[target]}."


def _left_out(choice: Choice, found: Mapping[str, Contents]) -> Iterable[str]:
    """Yield which keys become background, and in how many cases they have voxels or a file that was not read."""
    if choice.strict:
        return
    cases: Counter[Key] = Counter()
    for contents in found.values():
        read = None not in contents.files
        cases.update(key for key, count in contents.voxels.items() if (count or not read) and key not in choice.targets)
    for key, count in sorted(cases.items(), key=lambda pair: (-pair[1], str(pair[0])))[:_LINES]:
        yield f"{_called(key)} becomes background, in {count} of {len(found)} cases."
    if len(cases) > _LINES:
        yield f"{len(cases) - _LINES} others become background."


def _absent(choice: Choice, found: Mapping[str, Contents]) -> Iterable[str]:
    """Yield which classes that files name have no voxel in some cases: they count as not there."""
    for target, name in enumerate(choice.classes[1:], start=1):
        keys = [key for key, other in choice.targets.items() if other == target]
        without = [case for case, contents in found.items() if not any(contents.voxels[key] for key in keys)]
        if without and any(isinstance(key, str) for key in keys):
            some = ", ".join(without[:_SHOWN]) + (", ..." if len(without) > _SHOWN else "")
            yield f"{name} is outlined in no voxel of {len(without)} of {len(found)} cases: {some}."


def _covered(choice: Choice, found: Mapping[str, Contents]) -> Iterable[str]:
    """Yield which classes cover parts of others."""
    pairs: Counter[tuple[int, int]] = Counter()
    for contents in found.values():
        targets = {tuple(sorted(choice.targets.get(key, 0) for key in pair)) for pair in contents.overlaps}
        pairs.update((low, high) for low, high in targets if 0 < low < high)
    for (low, high), count in sorted(pairs.items()):
        yield f"{choice.classes[high]} covers a part of {choice.classes[low]}, in {count} of {len(found)} cases."
