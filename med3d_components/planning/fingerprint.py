"""What the headers of a training set tell of its volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from med3d_components.data.dataset_json import read_segmentations
from med3d_components.data.folders import channel_files
from med3d_components.data.labelled import read_domain
from med3d_components.data.volumes import read_header

__all__ = ["Fingerprint", "read_fingerprint"]

Triples = NDArray[np.float64]


@dataclass(frozen=True)
class Fingerprint:
    """Sizes and spacings of all cases of a training set, along the axes of RAS.

    Attributes:
        name: of the folder.
        classes: names, background first.
        channels: that a network sees of each scan.
        sizes: (N, 3), voxels of the N volumes.
        spacings: (N, 3), in mm; where a header has none, the median of the others.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    sizes: Triples
    spacings: Triples

    @property
    def cases(self) -> int:
        """Number of cases."""
        return len(self.sizes)

    def median_size(self, spacing: Any) -> Triples:
        """Return the median size, (3,), in voxels of a spacing (3,), in mm."""
        return np.asarray(np.median(self.sizes * self.spacings / spacing, axis=0))

    def __str__(self) -> str:
        """Return all in one line."""
        sizes, spacings = (
            " x ".join(
                f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}" for low, high in zip(*ends, strict=True)
            )
            for ends in ((each.min(axis=0), each.max(axis=0)) for each in (self.sizes, self.spacings))
        )
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        classes = f"{len(self.classes)} classes ({', '.join(self.classes)})"
        return f"{self.cases} cases of {sizes} voxels of {spacings} mm, {channels}, {classes}"


def read_fingerprint(folder: str | Path, in_channels: int | None = None, need_spacing: bool = True) -> Fingerprint:
    """Read the headers of a folder in the layout of the Medical Segmentation Decathlon, checked as for a training.

    Args:
        folder: with a ``dataset.json``.
        in_channels: of the network; by default one where ``dataset.json`` names a channel to use, else as many as the
            first scan has.
        need_spacing: whether a volume without a valid spacing is an error.

    Raises:
        FileNotFoundError: if the folder, its ``dataset.json`` or a file named there does not exist.
        ValueError: for what a training refuses.

    Example:
        >>> print(read_fingerprint("3DSeg-8/Task09_Spleen"))
        4 cases of 24 x 28 x 20 voxels of 0.75 x 0.75 x 5 mm, 1 channel, 2 classes (background, class 1)
    """
    folder = Path(folder).resolve()
    channels = _count_channels(folder / "dataset.json") if in_channels is None else in_channels
    domain = read_domain(folder, need_spacing, channels)
    headers = [case.header for case in domain.cases]
    sizes, spacings = (np.array([getattr(header, name) for header in headers], float) for name in ("size", "spacing"))
    known = ~np.isnan(spacings).any(axis=1)
    if not known.any():
        raise ValueError(f"No image of {domain.name} has a valid spacing; repair the headers of some.")
    spacings[~known] = np.median(spacings[known], axis=0)
    return Fingerprint(domain.name, tuple(domain.classes), channels, sizes, spacings)


def _count_channels(path: Path) -> int:
    if not path.is_file():
        return 1  # what reads the folder tells what is wrong with it
    listed = read_segmentations(path)
    if listed.channel is not None or not listed.entries:
        return 1
    images = listed.entries[0].images
    if len(images) > 1:
        return len(images)
    return read_header(images[0], False).channels if images[0].exists() else max(1, len(channel_files(images[0])))
