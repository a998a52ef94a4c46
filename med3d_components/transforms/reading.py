"""Reading volumes: MONAI's LoadImaged with this package's opinion of a scan, in less time for large ones.

A file holds the first axis of a volume next to each other, PyTorch wants the last one so. MONAI turns the array round
voxel by voxel, each a jump through memory, which takes longer than to unpack the file; here it is turned one plane at a
time, which the processor's cache holds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged, MapTransform
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys, ensure_tuple

from med3d_components.data.labels import check_values, fit_label, label_affine, read_label
from med3d_components.data.scan import Scan, case_name
from med3d_components.data.volumes import open_scan
from med3d_components.transforms.per_domain import of_domain

__all__ = ["FastLoadImaged", "LoadLabeld", "ScanReader"]

logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)  # says the same in the log

logger = logging.getLogger(__name__)

PADDING = 16
NOT_SCANS = (".npy", ".npz", ".png", ".jpg", ".jpeg", ".bmp")
"""Files that MONAI's own readers read."""


class ScanReader(ImageReader):
    """A reader for MONAI's ``LoadImage`` of all that :func:`open_scan` opens.

    Args:
        dtype: that the volume is loaded as; None for that of the file.
        need_spacing: whether a file without a voxel size is an error. If not, its voxels count as 1 mm, until
            :class:`EnsureSpacingd` gives them another size; a warning and "spacing_assumed" in the meta data say so.
        resample: of DICOM series, see :func:`open_scan`.

    Raises:
        ValueError: on reading, as :func:`open_scan`.

    Example:
        >>> reader = ScanReader()
        >>> volume, meta = reader.get_data(reader.read("ct.nii.gz"))
        >>> volume.shape, meta["affine"].shape
        ((64, 64, 64), (4, 4))
    """

    def __init__(self, dtype: Any = None, need_spacing: bool = True, resample: bool = False) -> None:
        self.dtype = dtype
        self.need_spacing = need_spacing
        self.resample = resample

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Tell whether these are no files that only MONAI reads."""
        return not any(str(path).lower().endswith(NOT_SCANS) for path in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Scan:
        """Open the file, DICOM folder, or series of one; several are channels of one scan."""
        scan = open_scan(ensure_tuple(data), need_spacing=self.need_spacing, resample=self.resample)
        if not scan.has_spacing:
            logger.warning("%s gives no voxel size, so lengths and volumes in it are assumed.", scan.path)
        return scan

    def get_data(self, img: Scan) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the voxels, of shape (x, y, z) or (x, y, z, channels), and the meta data of a MetaTensor."""
        channel = -1 if img.channels > 1 else float("nan")
        return _c_order(img.voxels(), self.dtype), {**_meta(img), MetaKeys.ORIGINAL_CHANNEL_DIM: channel}


class FastLoadImaged(LoadImaged):
    """MONAI's ``LoadImaged`` for scans: as fast as the file can be unpacked, and with one opinion of where they lie.

    NIfTI, NRRD, MetaImage and DICOM series are read by :class:`ScanReader`, numpy's and picture files by MONAI. Voxels
    of NIfTI files are those that MONAI loads, to the last bit. It has all of ``LoadImaged``'s arguments; a reader that
    is asked for by name is MONAI's.

    Args:
        keys: of the paths.
        reader: in place of these, as for ``LoadImaged``.
        args: as those of ``LoadImaged``.
        need_spacing: whether a file without a voxel size is an error, see :class:`ScanReader`.
        resample: of DICOM series, see :func:`open_scan`.
        kwargs: as those of ``LoadImaged``.

    Example:
        >>> FastLoadImaged("image", ensure_channel_first=True)({"image": "ct.nii.gz"})["image"].shape
        torch.Size([1, 64, 64, 64])
    """

    def __init__(
        self,
        keys: KeysCollection,
        reader: Any = None,
        *args: Any,
        need_spacing: bool = True,
        resample: bool = False,
        **kwargs: Any,
    ) -> None:
        with warnings.catch_warnings():
            # Where pydicom is installed, each LoadImage tries a decoder of NVIDIA's and warns that there is none.
            warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")
            super().__init__(keys, reader, *args, **kwargs)
        if reader is None:
            self.register(ScanReader(self._loader.dtype, need_spacing, resample))


class LoadLabeld(MapTransform):
    """Load labels onto the grid of their image: turned, padded, and checked, see :mod:`med3d_components.data.labels`.

    Run it before the image is loaded, since it reads the image's header. A label may be one-hot, with a channel per
    class.

    Args:
        keys: of the labels' paths.
        num_classes: number of classes, or domain name to number; values from 0 to it less one are allowed.
        image_key: entry that holds the path of the image.
        domain_key: entry of the sample that names its domain.

    Raises:
        ValueError: if a label does not lie on its image, or holds other values.

    Example:
        >>> case = {part: f"3DSeg-8/Task09_Spleen/{part}sTr/case_0.nii.gz" for part in ("image", "label")}
        >>> LoadLabeld("label", num_classes=2)(case)["label"].shape
        torch.Size([1, 24, 28, 20])
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: Mapping[str, int] | int,
        image_key: str = "image",
        domain_key: str = "domain",
    ) -> None:
        super().__init__(keys)
        self.num_classes = num_classes
        self.image_key = image_key
        self.domain_key = domain_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its labels, float32 of shape (1, H, W, D), with the image's affine."""
        result = dict(data)
        image = open_scan(result[self.image_key], need_spacing=False)
        case = str(result.get("case", case_name(image.path)))
        num_classes = of_domain(self.num_classes, result, self.domain_key)
        for key in self.key_iterator(result):
            label = open_scan(result[key], need_spacing=False)
            affine = label_affine(image, label, case)
            voxels = read_label(label, num_classes)
            check_values(voxels, num_classes, label.path)
            voxels = fit_label(voxels, affine, image.shape, image.affine, f"{case}: its label {label.path}")
            values = torch.as_tensor(_c_order(voxels, np.float32).astype(np.float32, order="C", copy=False))
            result[key] = MetaTensor(values[None], meta={**_meta(image), ImageMetaKey.FILENAME_OR_OBJ: label.path})
        return result


def _meta(scan: Scan) -> dict[str, Any]:
    """Return the meta data of a MetaTensor on the grid of a scan."""
    meta = {
        MetaKeys.AFFINE: scan.affine.copy(),
        MetaKeys.ORIGINAL_AFFINE: scan.affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.array(scan.shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
    }
    return meta if scan.has_spacing else {**meta, "spacing_assumed": True}


def _c_order(array: Any, dtype: Any) -> Any:
    """Return a copy in C order of an array whose axes lie in reverse order in memory."""
    if array.ndim != 3 or not array.flags.f_contiguous:
        return array if array.flags.writeable else array.copy()
    height, width, depth = array.shape
    out = np.empty(array.shape, dtype or array.dtype)
    # Rows a power of two apart would all fall into the same few lines of the cache.
    plane = np.empty((depth, height + PADDING), out.dtype)[:, :height]
    for index in range(width):
        plane[:] = array[:, index].T
        out[:, index] = plane.T
    return out
