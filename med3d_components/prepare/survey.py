"""Look through the labels of all cases before anything is written: which classes there are, and which overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from med3d_components.data.labels import count_values, fit_label
from med3d_components.data.volumes import open_scan
from med3d_components.prepare.label_files import Layer, read_layers
from med3d_components.prepare.layouts import CaseSource, LabelSource
from med3d_components.prepare.pairing import same_form

__all__ = ["Contents", "Key", "fold", "survey"]

Key = int | str
"""What tells a class apart in all cases: its label value, or its name where files or their names have one."""

_FEW = 1024
"""Most values of a label: an image has more."""


@dataclass
class Contents:
    """What the labels of a case hold.

    Attributes:
        files: for each label file, in the case's order, value in the file to key; None for one that was not read.
        voxels: how many each key has; one of a name without voxels has 0.
        outlines: key to the files that have voxels of it.
        overlaps: pairs of keys that share voxels, the one that came first first.
        cut: key to the file in which a part of it lies outside the scan, and how far that reaches, in mm.
    """

    files: list[dict[int, Key] | None] = field(default_factory=list)
    voxels: Counter[Key] = field(default_factory=Counter)
    outlines: dict[Key, list[Path]] = field(default_factory=dict)
    overlaps: set[tuple[Key, Key]] = field(default_factory=set)
    cut: dict[Key, tuple[Path, float]] = field(default_factory=dict)

    def add(self, key: Key, count: int, path: Path) -> None:
        """Add the voxels that a file has of a key."""
        self.voxels[key] += count
        if count and path not in self.outlines.setdefault(key, []):
            self.outlines[key].append(path)


def survey(cases: Mapping[str, CaseSource], wanted: Collection[str] = ()) -> dict[str, Contents]:
    """Read all labels.

    Args:
        cases: by name.
        wanted: names of classes; mask files that have the names of others are not read. All are without.

    Raises:
        ValueError: if a file cannot be read, is no label, or does not lie on its image.

    Example:
        >>> from med3d_components.prepare.layouts import find_layout
        >>> survey(find_layout(Path("3DSeg-8/Task09_Spleen")).cases)["case_0"].voxels
        Counter({1: 1000})
    """
    chosen, spelling, found = {fold(name) for name in wanted}, _Spelling(), {}
    for name, case in tqdm(cases.items(), "labels", unit="case"):
        reader = _CaseReader(name, case, spelling)
        for source in case.labels:
            if chosen and source.name and fold(source.name) not in chosen:
                reader.pass_over(source)
            else:
                reader.read(source)
        found[name] = reader.contents
    return found


def fold(name: str) -> str:
    """Return a name without what does not tell classes apart: capitals, blanks around it, and Unicode's form.

    Example:
        >>> fold(" Liver  Tumour") == fold("liver tumour")
        True
    """
    return " ".join(same_form(name).casefold().split())


class _Spelling(dict[str, str]):
    """Folded name to the first spelling that was met."""

    def of(self, name: str) -> str:
        return self.setdefault(fold(name), same_form(name).strip())


class _CaseReader:
    """Reads the labels of a case one after the other."""

    def __init__(self, name: str, case: CaseSource, spelling: _Spelling) -> None:
        self.name, self.image, self.alone = name, case.images[0], len(case.labels) == 1
        self.spelling = spelling
        self.cover = _Cover()
        self.contents = Contents(overlaps=self.cover.overlaps)

    def pass_over(self, source: LabelSource) -> None:
        """Note that there is a mask of a class that nobody wants."""
        self.contents.files.append(None)
        self.contents.add(self.spelling.of(source.name), 0, source.path)

    def read(self, source: LabelSource) -> None:
        """Add what a file holds."""
        keys: dict[int, Key] = {}
        if source.name:
            self.contents.add(self.spelling.of(source.name), 0, source.path)
        for layer in read_layers(source.path, self.image):
            counts = _count(layer.voxels, source.path)
            here = self._keys(source, layer, counts)
            for value, key in here.items():
                self.contents.add(key, counts.get(value, 0), source.path)
                if layer.cut_mm:
                    self.contents.cut[key] = source.path, layer.cut_mm
            if counts and not (self.alone and not layer.names):  # the values of one volume cannot overlap
                self.cover.add(self._place(source, layer), {value: here[value] for value in counts})
            keys |= here
        _check_file(source, keys, self.contents.voxels)
        self.contents.files.append(keys)

    def _keys(self, source: LabelSource, layer: Layer, counts: Mapping[int, int]) -> dict[int, Key]:
        """Return value to key of a layer."""
        names = dict.fromkeys(counts, source.name) if source.name else layer.names
        return {x: self.spelling.of(names[x]) if x in names else x for x in (*counts, *layer.names)}

    def _place(self, source: LabelSource, layer: Layer) -> NDArray[Any]:
        scan = open_scan(self.image, need_spacing=False)
        what = f"{self.name}: its label {source.path}"
        return fit_label(layer.voxels, layer.affine, scan.shape, scan.affine, what)


def _check_file(source: LabelSource, keys: Mapping[int, Key], voxels: Mapping[Key, int]) -> None:
    if source.name and len(keys) > 1:
        raise ValueError(
            f"{source.path} has the values {', '.join(map(str, keys))}, but should be the mask of one class."
        )
    for key, count in Counter(keys.values()).items():
        if count > 1 and voxels[key]:
            print(f"{source.path} has {count} classes called {key}; they are joined.")


def _count(voxels: NDArray[Any], path: Path) -> dict[int, int]:
    """Return how many voxels each value but 0 has."""
    counts = {value: count for value, count in count_values(voxels[_box(voxels)]).items() if value}
    if len(counts) > _FEW or min(counts, default=0) < 0:
        some = ", ".join(map(str, list(counts)[:5]))
        raise ValueError(f"{path} has {len(counts)} values such as {some}; a label has few, and none below 0.")
    return counts


def _box(voxels: NDArray[Any]) -> tuple[slice, ...]:
    """Return the box of what is not 0."""
    box = []
    for axis in range(voxels.ndim):
        found = np.flatnonzero(voxels.any(axis=tuple(other for other in range(voxels.ndim) if other != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0))
    return tuple(box)


class _Cover:
    """Remembers which key has which voxels of an image, and notes where two have the same."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.overlaps: set[tuple[Key, Key]] = set()
        self.grid: NDArray[np.uint16] | None = None

    def add(self, voxels: NDArray[Any], keys: Mapping[int, Key]) -> None:
        """Add the regions of a label on the grid of the image, (x, y, z)."""
        if self.grid is None:
            self.grid = np.zeros(voxels.shape, np.uint16)
        box = _box(voxels)
        part, taken = voxels[box], self.grid[box]
        for value, key in keys.items():
            region = part == value
            if key not in self.keys:
                self.keys.append(key)
            number = self.keys.index(key) + 1
            shared = np.unique(taken[region]).tolist()
            self.overlaps.update((self.keys[other - 1], key) for other in shared if other not in (0, number))
            taken[region] = number
