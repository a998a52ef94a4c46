"""Read a label file of any kind: a volume, a segmentation of 3D Slicer, a DICOM SEG or an RTSTRUCT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from med3d_components.data.dicom_files import is_dicom_file
from med3d_components.data.labels import label_affine, read_label
from med3d_components.data.scan import ENDINGS
from med3d_components.data.volumes import open_scan
from med3d_components.prepare.dicom_labels import RTSTRUCT, label_kind
from med3d_components.prepare.dicom_seg import read_dicom_seg
from med3d_components.prepare.layer import Layer
from med3d_components.prepare.rtstruct import read_rtstruct
from med3d_components.prepare.seg_nrrd import is_slicer_segmentation, read_seg_nrrd

__all__ = ["Layer", "read_layers"]


def read_layers(path: Path, image: Path) -> Iterator[Layer]:
    """Read the layers of a label file in their order; later ones cover earlier ones.

    Args:
        path: NIfTI, NRRD or MetaImage volume of whole numbers, ``.seg.nrrd`` of 3D Slicer, DICOM SEG or RTSTRUCT.
        image: its scan, as :func:`open_scan` takes it; an RTSTRUCT has no grid but that of its scan.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or is no label.
        ModuleNotFoundError: for a DICOM SEG without highdicom.

    Example:
        >>> spleen = Path("3DSeg-8/Task09_Spleen")
        >>> [layer] = read_layers(spleen / "labelsTr/case_0.nii.gz", spleen / "imagesTr/case_0.nii.gz")
        >>> layer.voxels.shape, layer.names
        ((24, 28, 20), {})
    """
    if path.is_file() and not path.name.lower().endswith(ENDINGS) and is_dicom_file(path):
        kind = label_kind(path)
        if not kind:
            raise ValueError(f"{path} is a DICOM file, but neither a SEG nor an RTSTRUCT; give a label.")
        yield from read_rtstruct(path, image) if kind == RTSTRUCT else read_dicom_seg(path)
    elif is_slicer_segmentation(path):
        yield from read_seg_nrrd(path)
    else:
        scan = open_scan(path, need_spacing=False)
        yield Layer(read_label(scan), label_affine(open_scan(image, need_spacing=False), scan, str(path)), {})
