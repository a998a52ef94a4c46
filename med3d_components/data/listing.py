"""The volumes of a folder: files of any format that MONAI reads, and sub-folders with a DICOM series."""

from __future__ import annotations

import os
from pathlib import Path

from med3d_components.data.dicom import is_dicom_folder, read_series

__all__ = ["case_name", "list_images", "list_volumes"]

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


def list_volumes(path: str | os.PathLike[str]) -> list[Path]:
    """List the volumes that a path stands for, sorted by name.

    A file is one volume, a folder of DICOM files is one volume, and any other folder holds several of both.

    Raises:
        FileNotFoundError: if there is no such file or folder, or no volume in it.

    Example:
        >>> list_volumes("imagesTs")
        [PosixPath('imagesTs/patient_1'), PosixPath('imagesTs/patient_2.nii.gz')]
    """
    path = Path(path)
    inside = sorted(path.iterdir()) if path.is_dir() and not is_dicom_folder(path) else [path]
    volumes = [entry for entry in inside if not entry.name.startswith(".") and _is_volume(entry)]
    if not volumes:
        raise FileNotFoundError(
            f"{path} holds no volume; give a {', '.join(ENDINGS)} file, the folder of a DICOM series, "
            "or a folder of these."
        )
    return volumes


def list_images(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """List volumes as items ``{"image": path}`` for inference, after a look at the headers of DICOM series.

    Raises:
        FileNotFoundError: if there is no volume.
        ValueError: for a DICOM folder that is no single complete series, or two volumes of one name.

    Example:
        >>> list_images("imagesTs/patient_2.nii.gz")
        [{'image': 'imagesTs/patient_2.nii.gz'}]
    """
    volumes = list_volumes(path)
    names: dict[str, Path] = {}
    for volume in volumes:
        if (twin := names.setdefault(case_name(volume), volume)) != volume:
            raise ValueError(
                f"{twin} and {volume} have one name, so that one result would overwrite the other; rename one."
            )
        if volume.is_dir():
            read_series(volume)
    return [{"image": str(volume)} for volume in volumes]


def case_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a volume without the ending of its format.

    Example:
        >>> case_name("imagesTr/patient.7.nii.gz")
        'patient.7'
    """
    name = Path(path).name
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def _is_volume(path: Path) -> bool:
    return is_dicom_folder(path) if path.is_dir() else path.is_file() and path.name.lower().endswith(ENDINGS)
