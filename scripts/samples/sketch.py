"""A sketch of one patient: named tissues painted one over the other, each with its natural variation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scripts.samples.shapes import Knot, Points, Shape, ellipsoid, tube, tubes, waves

__all__ = ["Sketch", "Structure"]


class Structure(NamedTuple):
    """A painted shape: its intensity in each channel, and its label."""

    shape: Shape
    intensity: NDArray[np.float32]
    label: int


class Sketch:
    """Draw the anatomy of one synthetic patient.

    Position, size and direction of what is drawn vary from patient to patient, and the whole is bent smoothly.
    What is painted later covers what was painted before, in the image and in the label.

    Args:
        rng: of this patient.
        size: in mm, of the organ drawn; it sets the scale of the variation.
        background: intensity where nothing is painted, one value per channel.

    Attributes:
        rng: as given.
        structures: painted so far.
        stature: of the patient: all that is painted is so many times as large as drawn. 1 unless a recipe sets it.
    """

    def __init__(self, rng: np.random.Generator, size: float, background: ArrayLike) -> None:
        self.rng = rng
        self.size = size
        self.background = np.atleast_1d(np.asarray(background, dtype=np.float32))
        self.structures: list[Structure] = []
        self.stature = 1.0
        self._bend = waves(rng, wavelength=0.8 * size, channels=3)

    def ellipsoid(self, center: ArrayLike, radii: ArrayLike, turn: ArrayLike = (0, 0, 0)) -> Shape:
        """Return an ellipsoid about ``center``, see :func:`~scripts.samples.shapes.ellipsoid`."""
        return ellipsoid(
            np.asarray(center) + self.rng.uniform(-0.03, 0.03, 3) * self.size,
            np.asarray(radii) * self.rng.uniform(0.9, 1.1, 3),
            np.asarray(turn) + self.rng.uniform(-8, 8, 3),
        )

    def tube(self, *knots: Knot) -> Shape:
        """Return a tube through about ``knots``, see :func:`~scripts.samples.shapes.tube`."""
        return tube(*self._vary(knots))

    def tubes(self, *paths: Sequence[Knot]) -> Shape:
        """Return several tubes as one shape, see :func:`~scripts.samples.shapes.tubes`."""
        return tubes(*(self._vary(knots) for knots in paths))

    def paint(self, shape: Shape, intensity: ArrayLike, label: int = 0) -> None:
        """Paint a shape over what is there.

        Args:
            shape: to fill.
            intensity: in each channel, or one for all.
            label: of the class that it belongs to; 0 for what is not to be found.
        """
        value = np.asarray(intensity, dtype=np.float32) * self.rng.uniform(0.96, 1.04)
        self.structures.append(Structure(shape, np.broadcast_to(value, self.background.shape), label))

    def render(self, points: Points, edge: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Look at the sketch.

        Args:
            points: of shape (3, N), in mm.
            edge: width in mm over which one intensity passes into the next, as in a voxel that holds both.

        Returns:
            Intensities of shape (C, N) and labels of shape (N,).
        """
        points, edge = points / np.float32(self.stature), edge / self.stature
        points = points + np.float32(0.02 * self.size) * self._bend(points)
        image = np.tile(self.background[:, None], points.shape[1])
        label = np.zeros(points.shape[1], np.uint8)
        for structure in self.structures:
            distance = structure.shape.distance(points)
            share = np.clip(0.5 - distance / edge, 0, 1)
            image += share * (structure.intensity[:, None] - image)
            label[distance < 0] = structure.label
        return image, label

    def _vary(self, knots: Sequence[Knot]) -> list[Knot]:
        shift = self.rng.uniform(-0.03, 0.03, (len(knots), 3)) * self.size
        radius = self.rng.uniform(0.9, 1.1)
        return [(x + dx, y + dy, z + dz, r * radius) for (x, y, z, r), (dx, dy, dz) in zip(knots, shift, strict=True)]
