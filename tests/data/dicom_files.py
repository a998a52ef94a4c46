"""Write volumes as real DICOM series, one file a slice."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import itk
import numpy as np
from monai.data.utils import orientation_ras_lps
from numpy.typing import NDArray

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


class WrittenSeries(NamedTuple):
    uid: str
    instance_uids: list[str]  # of all slices of the volume, in its order


def write_series(
    folder: Path,
    volume: NDArray[Any],
    affine: NDArray[Any],
    patient: str = "LIDC-IDRI-0001",
    series_uid: str | None = None,
    shuffle: bool = False,
    leave_out: Collection[int] = (),
    suffix: str = ".dcm",
) -> WrittenSeries:
    """Write a volume (i, j, k) of HU with its affine (i, j, k) to RAS mm, adding to what the folder holds.

    The axes of the affine must be orthogonal, and k the cross product of i and j in direction for the files to be read
    back in this order. ``shuffle`` gives the files names in another order than that of their positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = series_uid or f"1.2.826.0.1.3680043.10.1000.{zlib.crc32(str(folder).encode())}"
    instance_uids = [f"{uid}.{number + 1}" for number in range(volume.shape[2])]
    start = len(list(folder.iterdir()))
    order = np.random.default_rng(0).permutation(volume.shape[2]) if shuffle else np.arange(volume.shape[2])
    for k in sorted(set(range(volume.shape[2])) - set(leave_out)):
        file = folder / f"{start + order[k] + 1:06}{suffix}"
        _write_slice(file, volume[:, :, k], affine @ _shift(k), uid, instance_uids[k], patient)
    return WrittenSeries(uid, instance_uids)


def _shift(k: int) -> NDArray[Any]:
    shift = np.eye(4)
    shift[2, 3] = k
    return shift


def _write_slice(
    file: Path, pixels: NDArray[Any], affine: NDArray[Any], uid: str, instance_uid: str, patient: str
) -> None:
    lps = orientation_ras_lps(affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    tags = {
        "0008|0016": CT_IMAGE_STORAGE,
        "0008|0018": instance_uid,
        "0008|0060": "CT",
        "0010|0020": patient,
        "0018|0050": f"{spacing[2]:.6f}",
        "0020|000d": f"{uid}.0",
        "0020|000e": uid,
        "0020|0032": _join(lps[:3, 3]),
        "0020|0037": _join(direction[:, :2].T.ravel()),
        "0028|0030": _join(spacing[[1, 0]]),  # rows first
        "0028|1052": "-1024",
        "0028|1053": "1",
    }
    dictionary = itk.MetaDataDictionary()
    for tag, value in tags.items():
        dictionary[tag] = value
    image = itk.image_from_array(np.ascontiguousarray(pixels.T[None].astype(np.int16)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(direction)))
    image.SetMetaDataDictionary(dictionary)
    writer = itk.GDCMImageIO.New(KeepOriginalUID=True)
    itk.ImageFileWriter.New(Input=image, ImageIO=writer, FileName=str(file)).Update()


def _join(values: NDArray[Any]) -> str:
    return "\\".join(f"{value:.6f}" for value in values)
