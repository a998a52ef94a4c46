"""Small pictures of a case, for pages that hold many."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from med3d_components.handlers.planes import Plane, fill_classes

__all__ = ["draw_planes"]

TILE = 180
"""Side of a plane's square, in pixels; ``templates/letters.svg`` has the same."""
QUALITIES = (75, 60, 40, 20, 10)
"""Of the JPEG: the first that is small enough, which noise makes a low one."""
MOST_BYTES = 15_000
"""So that a thousand cases make a page of 20 MB."""


def draw_planes(
    image: NDArray[Any], label: NDArray[Any], affine: NDArray[Any], window: tuple[float, float] | None = None
) -> bytes:
    """Draw a case as radiologists look at it, in three planes through where they show most of its label.

    The planes, axial, coronal and sagittal, have one scale and true lengths. The page writes the letters of the
    patient's sides over them.

    Args:
        image: (H, W, D), oriented to RAS.
        label: of the same shape, zeros where there is none.
        affine: (4, 4), voxel to RAS mm.
        window: values that become black and white; by default the 1st and 99th percentiles in the three planes.

    Returns:
        A JPEG of 540 x 180 pixels.

    Example:
        >>> image = np.zeros((20, 30, 10))
        >>> len(draw_planes(image, image, np.eye(4))) < 5000
        True
    """
    planes = [Plane.through(label, affine, axis) for axis in (2, 1, 0)]
    scale = TILE / max(side for plane in planes for side in (plane.width, plane.height))
    cuts = [plane.cut(image).astype(np.float32) for plane in planes]
    low, high = window or _percentiles(np.concatenate([cut.ravel() for cut in cuts]))
    tiles = []
    for plane, cut in zip(planes, cuts, strict=True):
        size = [max(1, round(length * scale)) for length in (plane.height, plane.width)]
        grey = (np.clip(np.nan_to_num(cut), low, high) - low) / max(high - low, 1e-9)
        tiles.append(_framed(_overlaid(_resized(grey, size), _nearest(plane.cut(label), size))))
    return _as_jpeg(np.concatenate(tiles, axis=1))


def _percentiles(values: NDArray[Any]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, (1, 99)).tolist() if known.size else (0, 1)
    return low, high


def _resized(grey: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    return np.asarray(resize(grey, size, order=1, anti_aliasing=min(size) > 1))


def _nearest(labels: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Return labels at another size, each pixel that of the nearest voxel."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def _overlaid(grey: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, columns, RGB) from 0 to 1: classes are thin enough to see through, and their edges are not."""
    colors = fill_classes(labels) / 255
    alpha = np.where(find_boundaries(labels, mode="inner") & (labels > 0), 1, colors[..., 3])[..., None]
    return np.asarray(alpha * colors[..., :3] + (1 - alpha) * grey[..., None])


def _framed(picture: NDArray[Any]) -> NDArray[Any]:
    """Return a picture in the middle of a black square."""
    framed = np.zeros((TILE, TILE, 3))
    rows, columns = picture.shape[:2]
    top, left = (TILE - rows) // 2, (TILE - columns) // 2
    framed[top : top + rows, left : left + columns] = picture
    return framed


def _as_jpeg(picture: NDArray[Any]) -> bytes:
    pixels = np.round(255 * picture).astype(np.uint8)
    for quality in QUALITIES:
        file = io.BytesIO()
        options = {"quality": quality, "subsampling": 0, "optimize": True}  # thin edges keep their colour
        imsave(file, pixels, format="jpeg", pil_kwargs=options)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()
