"""Make synthetic scans: put a grid into a sketch of the anatomy, and add what a scanner adds."""

from __future__ import annotations

import functools
import os
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from med3d_components.prepare.decathlon import LabelledScan, write_domain
from scripts.samples.recipes import RECIPES, SYNTHETIC_DOMAINS, Recipe
from scripts.samples.shapes import Points, waves
from scripts.samples.sketch import Sketch

__all__ = ["DESCRIPTION", "check_series", "draw_scan", "make_scan", "voxel_centers", "write_sample"]

VERSION = 2
"""Of the recipes; raised whenever a change alters the scans of a seed."""

DESCRIPTION = "SYNTHETIC: shapes drawn by a program, no patient was scanned. It says nothing about medicine."
ORIENTATIONS = ("RAS", "LPS", "LAS", "ASL")


def write_sample(folder: str | os.PathLike[str], cases: int = 6, seed: int = 0) -> bool:
    """Write the synthetic counterpart of one domain of 3DSeg-8, ``Synthetic_Lungs`` or ``Synthetic_Livers``.

    Args:
        folder: to write; its last part must be the domain's name.
        cases: number of scans.
        seed: of the patients. The first scans of a longer series equal those of a shorter one.

    Returns:
        Whether anything was written: False if the same sample is already there.

    Raises:
        ValueError: if there is no such domain, or the number of cases or the seed is not one.
        FileExistsError: if the folder holds anything else.
    """
    folder = Path(folder)
    _check_domain(folder.name)
    provenance = check_series(cases, seed)
    scans = {f"synthetic_{i:03d}": functools.partial(make_scan, folder.name, i, seed) for i in range(cases)}
    facts = SYNTHETIC_DOMAINS[folder.name]
    return write_domain(folder, facts, scans, DESCRIPTION, provenance, licence="CC0 1.0")


def check_series(cases: int, seed: int) -> dict[str, Any]:
    """Return what a ``dataset.json`` says of how its synthetic patients came to be.

    Raises:
        ValueError: if the number of cases or the seed is not one.
    """
    if not isinstance(cases, int) or cases < 1:
        raise ValueError(f"cases is {cases!r}, but must be a positive integer.")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}, but must be an integer of 0 or more.")
    return {"synthetic": {"seed": seed, "cases": cases, "version": VERSION}}


def make_scan(domain: str, index: int, seed: int = 0) -> LabelledScan:
    """Make a synthetic scan with its label.

    Args:
        domain: name of a domain of 3DSeg-8, ``Synthetic_Lungs`` or ``Synthetic_Livers``.
        index: of the patient; each has another anatomy, spacing and orientation.
        seed: of the series of patients.

    Returns:
        The scan, in int16: HU for CT, arbitrary units for MR.

    Raises:
        ValueError: if there is no such domain.

    Example:
        >>> make_scan("Task09_Spleen", index=0).label.max()
        np.uint8(1)
    """
    _check_domain(domain)
    rng = np.random.default_rng([seed, zlib.crc32(domain.encode()), index])
    return draw_scan(RECIPES[domain], SYNTHETIC_DOMAINS[domain].modality, index, rng)


def draw_scan(recipe: Recipe, modality: str, index: int, rng: np.random.Generator) -> LabelledScan:
    """Draw a patient by a recipe and look at it with a scanner of the modality, "CT" or "MRI"."""
    shape, affine = _place_grid(recipe, index, rng)
    sketch = Sketch(rng, recipe.size, recipe.background)
    recipe.draw(sketch)
    points = voxel_centers(shape, affine)
    image, label = sketch.render(points, edge=float(np.mean(recipe.spacing)))
    acquire = _acquire_ct if modality == "CT" else _acquire_mr
    image = np.rint(acquire(image, points, recipe, rng)).astype(np.int16)
    channels = image.reshape(-1, *shape)
    return LabelledScan(
        channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1), label.reshape(shape), affine
    )


def voxel_centers(shape: tuple[int, ...], affine: NDArray[np.float64]) -> Points:
    """Return the world coordinates of a grid's voxels, of shape (3, H * W * D), in mm."""
    index = np.indices(shape, dtype=np.float64).reshape(3, -1)
    return (np.einsum("ij,jn->in", affine[:3, :3], index) + affine[:3, 3:]).astype(np.float32)


def _place_grid(recipe: Recipe, index: int, rng: np.random.Generator) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return the shape and affine of a grid about the anatomy; the next scan has other axes, every third is oblique."""
    orientation = nib.orientations.axcodes2ornt(ORIENTATIONS[index % len(ORIENTATIONS)])
    order = orientation[:, 0].astype(int)
    spacing = np.array(recipe.spacing) * rng.uniform(0.9, 1.1, 3)
    voxels = np.array(recipe.voxels) + rng.integers(-recipe.spread, recipe.spread + 1, 3)
    turn = rng.uniform(-12, 12, 3) if index % 3 == 1 else np.zeros(3)
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()[:, order] * orientation[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing[order]
    shift = (0, 0, recipe.shifts[index % len(recipe.shifts)])
    wander = np.array(recipe.wander)
    center = np.array(recipe.center) + shift + rng.uniform(-wander, wander) * recipe.size
    affine[:3, 3] = center - affine[:3, :3] @ ((voxels[order] - 1) / 2)
    return tuple(voxels[order].tolist()), affine


def _acquire_ct(image: Points, points: Points, recipe: Recipe, rng: np.random.Generator) -> Points:
    """Add a texture and noise to HU, and cut off at the lower end of the scale."""
    texture = 0.25 * recipe.noise * waves(rng, wavelength=0.15 * recipe.size, channels=1)(points)
    noise = rng.normal(scale=recipe.noise, size=image.shape)
    return np.maximum(image + texture + noise, -1024)


def _acquire_mr(image: Points, points: Points, recipe: Recipe, rng: np.random.Generator) -> Points:
    """Add a bias field and the noise of a magnitude image, on a scale that is each scan's own."""
    bias = np.exp(0.12 * waves(rng, wavelength=1.5 * recipe.size, channels=1)(points))
    real, imaginary = rng.normal(scale=recipe.noise, size=(2, *image.shape))
    return rng.uniform(0.5, 2.0) * np.hypot(image * bias + real, imaginary)


def _check_domain(domain: str) -> None:
    if domain not in RECIPES:
        raise ValueError(f"There is no synthetic domain {domain!r}; there are {', '.join(RECIPES)}.")
