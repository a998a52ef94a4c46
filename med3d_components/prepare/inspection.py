"""What one case is: its geometry, intensities, labels and picture, and why it cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from med3d_components.data.labels import check_label, check_values, fit_label, label_affine, read_label
from med3d_components.data.scan import Scan
from med3d_components.data.sides import split_side
from med3d_components.data.volumes import open_scan
from med3d_components.prepare.listing import Item
from med3d_components.report import draw_planes
from med3d_components.transforms.checks import CheckHounsfieldd, CheckImaged

__all__ = ["AIR", "CaseFacts", "Finding", "Intensities", "inspect_case"]

ENOUGH = 2_000_000
"""Voxels that tell percentiles and Hounsfield units, at even steps through the image."""
HU = (-200, 300)
"""What a picture of a CT shows: soft tissue."""
AIR = -500
"""HU below which there is air, and lung; other images have no such values."""


class Finding(NamedTuple):
    """What is wrong, or doubtful, with a case: of which kind, in words, and whether it cannot be used."""

    kind: str
    text: str
    is_error: bool = False


class Intensities(NamedTuple):
    """The lowest and the highest value of an image, and its 1st and 99th percentiles."""

    lowest: float
    low: float
    high: float
    highest: float


@dataclass
class CaseFacts:
    """What is known of a case; of one that cannot be read, no more than its name and the reason.

    Attributes:
        name: of the case.
        findings: what is wrong or doubtful.
        size: voxels along left-right, posterior-anterior and inferior-superior.
        channels: numbers per voxel.
        spacing: mm along the same axes; None where the file gives none.
        orientation: where the axes of the file point, such as "LPS".
        modality: of a DICOM series.
        intensities: of the channel that is looked at.
        offset: what is wrong with its values if it is a CT.
        image_hash: of the voxels in RAS.
        label_hash: the same of the label; empty if it has no foreground.
        volumes_ml: class to ml, zeros included; empty where there is no label.
        places_mm: class whose name tells a side to where its centroid lies, in world mm that grow to the right.
        picture: JPEG of three planes.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    size: tuple[int, ...] = ()
    channels: int = 1
    spacing: tuple[float, ...] | None = None
    orientation: str = ""
    modality: str = ""
    intensities: Intensities | None = None
    offset: str = ""
    image_hash: str = ""
    label_hash: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    places_mm: Mapping[str, float] = field(default_factory=dict)
    picture: bytes = b""

    @property
    def state(self) -> str:
        """Whether the case cannot be used, "error", is doubtful, "warning", or neither, "good"."""
        if any(finding.is_error for finding in self.findings):
            return "error"
        return "warning" if self.findings else "good"

    @property
    def reaches_air(self) -> bool:
        """Whether there are values as low as those of air in a CT."""
        return self.intensities is not None and self.intensities.lowest < AIR


def inspect_case(item: Item, classes: Sequence[str], channel: int = 0) -> CaseFacts:
    """Read a case, image and label once each, and describe it; what is wrong becomes a finding, not an error.

    Args:
        item: the case.
        classes: names, background first.
        channel: of a 4-D image.

    Example:
        >>> folder = "3DSeg-8/Task09_Spleen"
        >>> item = Item("case_0", (f"{folder}/imagesTr/case_0.nii.gz",), f"{folder}/labelsTr/case_0.nii.gz")
        >>> inspect_case(item, ("background", "spleen")).volumes_ml
        {'spleen': 2.8125}
    """
    facts = CaseFacts(item.name)
    try:
        if item.error:
            raise ValueError(item.error)
        scan = open_scan(item.images, need_spacing=False)
        image, affine = _as_ras(_one_channel(scan, channel), scan.affine)
        _describe_image(facts, scan, image)
    except Exception as error:  # whatever a damaged file leads the libraries to
        facts.findings.append(Finding("unusable image", _reason(error), is_error=True))
        return facts
    label = np.zeros(image.shape, np.uint8)
    if item.label is not None:
        try:
            label = _read_label(item, scan, len(classes))
            _describe_label(facts, label, affine, classes)
        except Exception as error:
            facts.findings.append(Finding("unusable label", _reason(error), is_error=True))
    facts.picture = draw_planes(image, label, affine, HU if facts.reaches_air else None)
    return facts


def _reason(error: Exception) -> str:
    foreseen = isinstance(error, OSError | ValueError)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def _one_channel(scan: Scan, channel: int) -> NDArray[Any]:
    voxels = scan.voxels()
    if scan.channels == 1:
        return voxels
    if not 0 <= channel < scan.channels:
        raise ValueError(f"{scan.path} has {scan.channels} channels, so there is no channel {channel}.")
    return voxels[..., channel]


def _as_ras(voxels: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Turn a volume to RAS, as a view, with its affine."""
    turn = nib.io_orientation(affine)
    return nib.apply_orientation(voxels, turn), affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)


def _describe_image(facts: CaseFacts, scan: Scan, image: NDArray[Any]) -> None:
    order = np.argsort(nib.io_orientation(scan.affine)[:, 0])
    facts.size, facts.channels, facts.modality = image.shape, scan.channels, scan.modality
    facts.orientation = "".join(nib.aff2axcodes(scan.affine))
    if scan.has_spacing:
        facts.spacing = tuple(float(np.linalg.norm(scan.affine[:3, axis])) for axis in order)
    else:
        facts.findings.append(Finding("no voxel size", "the header gives none; ml are those of voxels of 1 mm."))
    step = max(1, round((image.size / ENOUGH) ** (1 / 3)))
    few = np.ascontiguousarray(image[::step, ::step, ::step], np.float32)
    low, high = np.percentile(few[np.isfinite(few)], (1, 99)).tolist() if np.isfinite(few).any() else (np.nan, np.nan)
    facts.intensities = Intensities(float(image.min()), low, high, float(image.max()))
    facts.image_hash = _digest(image)
    extremes = np.array([facts.intensities.lowest, facts.intensities.highest])
    if reason := _refusal(CheckImaged("image"), extremes[None]):
        facts.findings.append(Finding("unusable image", reason, is_error=True))
    else:
        facts.offset = _refusal(CheckHounsfieldd("image", HU), few[None])


def _refusal(check: CheckImaged | CheckHounsfieldd, image: NDArray[Any]) -> str:
    """Return why a transform refuses an image; empty if it does not."""
    try:
        check({"image": image})
    except ValueError as error:
        return str(error)
    return ""


def _digest(volume: NDArray[Any]) -> str:
    """Return a hash of values and shape, whatever type and order in memory they have."""
    digest = hashlib.blake2b(repr(volume.shape).encode(), digest_size=16)
    for index in range(volume.shape[2]):
        digest.update(volume[:, :, index].astype(np.float32).tobytes())
    return digest.hexdigest()


def _read_label(item: Item, scan: Scan, count: int) -> NDArray[Any]:
    """Return a label as whole numbers on the image's grid, in RAS."""
    source = open_scan(str(item.label), need_spacing=False)
    check_label(scan, source, item.name)  # before its voxels are read
    voxels = read_label(source, count)
    check_values(voxels, count, source.path)
    place = label_affine(scan, source, item.name)
    fitted = fit_label(voxels.astype(np.min_scalar_type(count)), place, scan.shape, scan.affine, item.name)
    return _as_ras(fitted, scan.affine)[0]


def _describe_label(facts: CaseFacts, label: NDArray[Any], affine: NDArray[Any], classes: Sequence[str]) -> None:
    slices = np.moveaxis(label, 2, 0)
    counts = np.sum([np.bincount(part.ravel(), minlength=len(classes)) for part in slices], axis=0)
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    facts.volumes_ml = {name: float(counts[value]) * voxel_ml for value, name in enumerate(classes) if value}
    facts.places_mm = {
        name: _place(label == value, affine)
        for value, name in enumerate(classes)
        if value and counts[value] and split_side(name)
    }
    facts.label_hash = _digest(label) if counts[1:].any() else ""


def _place(mask: NDArray[np.bool_], affine: NDArray[Any]) -> float:
    """Return where the centroid of a mask lies from left to right, in world mm."""
    profiles = (mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3))
    centroid = [float(np.average(np.arange(profile.size), weights=profile)) for profile in profiles]
    return float(affine[0, :3] @ centroid + affine[0, 3])
