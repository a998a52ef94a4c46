"""Write volumes as real DICOM series, one file a slice."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import itk
import numpy as np
import pydicom
from monai.data.utils import orientation_ras_lps
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

CLASSES = {
    "CT": (CTImageStorage, EnhancedCTImageStorage),
    "MR": (MRImageStorage, EnhancedMRImageStorage),
    "PT": (PositronEmissionTomographyImageStorage, EnhancedPETImageStorage),
}
Change = Callable[[Dataset, int], object]


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
    start = len(list(folder.iterdir()))
    instance_uids = [f"{uid}.{start + number + 1}" for number in range(volume.shape[2])]
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
        "0008|0016": str(CTImageStorage),
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


def write_slices(
    folder: Path,
    stored: NDArray[Any],
    affine: NDArray[Any],
    change: Change = lambda header, k: None,
    modality: str = "CT",
    uid: str | None = None,
    suffix: str = ".dcm",
    syntax: str = ExplicitVRLittleEndian,
) -> str:
    """Write stored values (i, j, k), 16 bit, as a series by pydicom alone, adding to what the folder holds.

    ``change(header, k)`` may set or delete what it likes before slice ``k`` is written. Returns SeriesInstanceUID.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    start, signed = len(list(folder.iterdir())), bool(stored.min() < 0)
    for k in range(stored.shape[2]):
        header = _header(stored[:, :, k].T, modality, CLASSES[modality][0], uid, syntax, signed)
        header.update(_geometry(affine @ _shift(k)))
        header.InstanceNumber = k + 1
        if modality != "MR":
            header.RescaleIntercept, header.RescaleSlope = (-1024, 1) if modality == "CT" else (0, 1)
        change(header, k)
        save(header, folder / f"{start + k + 1:06}{suffix}")
    return uid


def write_enhanced(
    file: Path,
    stored: NDArray[Any],
    affine: NDArray[Any],
    modality: str,
    change: Change = lambda group, k: None,
    uid: str | None = None,
) -> str:
    """Write stored values (i, j, k) as the frames of one file; ``change(group, k)`` has a frame's functional groups."""
    uid = uid or generate_uid()
    header = _header(stored.T, modality, CLASSES[modality][1], uid, ExplicitVRLittleEndian, bool(stored.min() < 0))
    header.NumberOfFrames = stored.shape[2]
    place = _geometry(affine)
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = place.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = place.PixelSpacing, place.SliceThickness
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    header.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in range(stored.shape[2]):
        position, values, content, group = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _geometry(affine @ _shift(k)).ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept = 1, -1024 if modality == "CT" else 0
        content.DimensionIndexValues = [1, k + 1]
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [values]
        group.FrameContentSequence = [content]
        change(group, k)
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence = groups
    file.parent.mkdir(parents=True, exist_ok=True)
    save(header, file)
    return uid


def write_object(file: Path, sop_class: str, modality: str) -> None:
    """Write a DICOM object without voxels."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = sop_class, generate_uid(), modality
    header.SeriesInstanceUID = generate_uid()
    file.parent.mkdir(parents=True, exist_ok=True)
    save(header, file)


def save(header: Dataset, file: Path) -> None:
    """Write a file in the transfer syntax that its meta information names, with any version of pydicom."""
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    if int(pydicom.__version__.split(".")[0]) >= 3:
        header.save_as(file, enforce_file_format=True)
    else:
        header.is_little_endian = header.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
        header.is_implicit_VR = header.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        header.save_as(file, write_like_original=False)


def _header(frames: NDArray[Any], modality: str, sop_class: str, uid: str, syntax: str, signed: bool) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = sop_class, generate_uid(), modality
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.PatientName, header.PatientID = "Doe^Jane", "P7"
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(entropy_srcs=[uid]), uid
    header.Rows, header.Columns = frames.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(signed)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    header.PixelData = frames.astype(f"{order}{'i' if signed else 'u'}2").tobytes()
    header["PixelData"].VR = "OW"
    return header


def _geometry(affine: NDArray[Any]) -> Dataset:
    lps = orientation_ras_lps(affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    geometry = Dataset()
    geometry.ImagePositionPatient = lps[:3, 3].round(6).tolist()
    geometry.ImageOrientationPatient = (lps[:3, :2] / spacing[:2]).T.ravel().round(6).tolist()
    geometry.PixelSpacing = spacing[[1, 0]].round(6).tolist()
    geometry.SliceThickness = float(spacing[2].round(6))
    return geometry
