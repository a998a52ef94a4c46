"""A small vocabulary of smooth shapes: what anatomy is drawn with.

A shape is a signed distance, in mm and negative inside, as a function of world points. It knows nothing of voxels, so
one and the same anatomy can be sampled on any grid. Points have shape (3, N). Products with them are written with
einsum: BLAS is slower on matrices this narrow, and its last digits depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

__all__ = ["Knot", "Points", "Shape", "burr", "ellipsoid", "half_space", "smooth_union", "tube", "tubes", "waves"]

Points = NDArray[np.float32]
Knot = tuple[float, float, float, float]


class Shape:
    """A region of space.

    Args:
        distance: from points of shape (3, N) in mm to signed distances of shape (N,) in mm, negative inside. Between
            the surface and a few mm around it the distance is about right; farther away only its sign is.

    Example:
        >>> ball, slab = ellipsoid((0, 0, 0), (10, 10, 10)), half_space((0, 0, 0), (0, 0, 1))
        >>> (ball & slab).distance(np.array([[0, 0], [0, 0], [-5, 5]], np.float32)) < 0
        array([ True, False])
    """

    def __init__(self, distance: Callable[[Points], Points]) -> None:
        self.distance = distance

    def __or__(self, other: Shape) -> Shape:
        """Return the points in either shape."""
        return Shape(lambda points: np.minimum(self.distance(points), other.distance(points)))

    def __and__(self, other: Shape) -> Shape:
        """Return the points in both shapes."""
        return Shape(lambda points: np.maximum(self.distance(points), other.distance(points)))

    def __sub__(self, other: Shape) -> Shape:
        """Return the points in this shape that are not in the other."""
        return Shape(lambda points: np.maximum(self.distance(points), -other.distance(points)))

    def wrinkled(self, noise: Callable[[Points], Points], depth: float) -> Shape:
        """Return the shape with its surface moved by ``depth`` mm times the first channel of ``noise``."""
        return Shape(lambda points: self.distance(points) + np.float32(depth) * noise(points)[0])

    def grown(self, margin: float) -> Shape:
        """Return the shape with its surface moved outwards by ``margin`` mm; inwards if negative."""
        return Shape(lambda points: self.distance(points) - np.float32(margin))

    def near(self, center: ArrayLike, reach: float) -> Shape:
        """Return the part within ``reach`` mm of a point, which is quicker for a small shape in a large grid."""
        middle = _column(center)

        def distance(points: Points) -> Points:
            offset = points - middle
            close = np.einsum("in,in->n", offset, offset) < reach**2
            far = np.full(points.shape[1], reach, np.float32)
            far[close] = self.distance(points[:, close])
            return far

        return Shape(distance)


def ellipsoid(center: ArrayLike, radii: ArrayLike, turn: ArrayLike = (0, 0, 0)) -> Shape:
    """Return an ellipsoid.

    Args:
        center: in mm.
        radii: in mm; an infinite one makes a cylinder along that axis.
        turn: angles in degrees about the x, y and z axes.
    """
    middle = _column(center)
    axes = Rotation.from_euler("xyz", np.asarray(turn), degrees=True).as_matrix().T
    scale = np.asarray(axes / _column(radii), dtype=np.float32)
    scale2 = np.asarray(scale / _column(radii), dtype=np.float32)

    def distance(points: Points) -> Points:
        offset = points - middle
        level = _lengths(scale, offset)
        # The level set's value divided by the length of its gradient: the distance to first order.
        return level * (level - 1) / np.maximum(_lengths(scale2, offset), np.float32(1e-6))

    return Shape(distance)


def tube(*knots: Knot) -> Shape:
    """Return a tube along a smooth curve.

    Args:
        knots: x, y, z and radius in mm of the points that the curve passes through; 2 or more.
    """
    return tubes(knots)


def tubes(*paths: Sequence[Knot]) -> Shape:
    """Return several tubes as one shape, which is quicker than their union.

    Args:
        paths: the knots of each, as in :func:`tube`.
    """
    curve = np.concatenate([_curve(knots) for knots in paths])
    tree, radii = cKDTree(curve[:, :3]), curve[:, 3].astype(np.float32)
    reach = float(2 * radii.max())

    def distance(points: Points) -> Points:
        far, nearest = tree.query(points.T, distance_upper_bound=reach)  # infinity and N where nothing is within reach
        return np.minimum(far, reach).astype(np.float32) - np.append(radii, radii.max())[nearest]

    return Shape(distance)


def burr(center: ArrayLike, radius: float, spikes: ArrayLike) -> Shape:
    """Return a ball with spikes.

    Args:
        center: in mm.
        radius: of the ball in mm.
        spikes: of shape (N, 3): the way in mm from the ball's surface to the tip of each.
    """
    middle, ways = _column(center), np.asarray(spikes, dtype=np.float32)
    lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    sharpness = np.float32(30)

    def distance(points: Points) -> Points:
        offset = points - middle
        far = np.sqrt(np.einsum("in,in->n", offset, offset))
        cosine = np.einsum("ki,in->kn", ways / lengths, offset) / np.maximum(far, np.float32(1e-6))
        return far - np.float32(radius) - (lengths * np.exp(sharpness * (cosine - 1))).max(axis=0)

    return Shape(distance)


def half_space(point: ArrayLike, normal: ArrayLike) -> Shape:
    """Return the side of a plane that ``normal`` points away from."""
    unit = np.asarray(normal, dtype=np.float32) / np.linalg.norm(np.asarray(normal))
    offset = np.float32(unit @ np.asarray(point))
    return Shape(lambda points: np.einsum("i,in->n", unit, points) - offset)


def smooth_union(shapes: Sequence[Shape], blend: float) -> Shape:
    """Return the union of shapes with the creases between them filled, over about ``blend`` mm."""

    def distance(points: Points) -> Points:
        first, *others = (shape.distance(points) for shape in shapes)
        for other in others:
            share = np.clip(0.5 + 0.5 * (other - first) / blend, 0, 1)
            first = other + share * (first - other) - blend * share * (1 - share)
        return first

    return Shape(distance)


def waves(rng: np.random.Generator, wavelength: float, channels: int) -> Callable[[Points], Points]:
    """Return a random smooth function of space: plane waves of random direction and phase.

    Args:
        rng: draws the waves.
        wavelength: in mm, of the shortest; the longest is twice as long.
        channels: number of independent values.

    Returns:
        A function from points of shape (3, N) to values of shape (channels, N), of mean 0 and standard deviation 1.
    """
    count = 8
    directions = rng.normal(size=(count, 3))
    lengths = rng.uniform(wavelength, 2 * wavelength, (count, 1))
    directions *= 2 * np.pi / (lengths * np.linalg.norm(directions, axis=1, keepdims=True))
    phases = rng.uniform(0, 2 * np.pi, (count, 1)).astype(np.float32)
    weights = rng.normal(size=(channels, count))
    weights *= np.sqrt(2) / np.linalg.norm(weights, axis=1, keepdims=True)
    frequencies, amplitudes = directions.astype(np.float32), weights.astype(np.float32)

    def value(points: Points) -> Points:
        angles = np.einsum("ki,in->kn", frequencies, points) + phases
        return np.einsum("ck,kn->cn", amplitudes, np.sin(angles))

    return value


def _curve(knots: Sequence[Knot]) -> NDArray[np.float64]:
    """Return points with radii, of shape (97, 4), along a smooth curve through the knots."""
    places = np.linspace(0, 1, len(knots))
    return make_interp_spline(places, np.array(knots, dtype=float), k=min(3, len(knots) - 1))(np.linspace(0, 1, 97))


def _column(values: ArrayLike) -> Points:
    return np.asarray(values, dtype=np.float32).reshape(3, 1)


def _lengths(matrix: Points, points: Points) -> Points:
    product = np.einsum("ij,jn->in", matrix, points)
    return np.sqrt(np.einsum("in,in->n", product, product))
