"""Reading volumes: MONAI's LoadImaged with this package's opinion of a scan, in less time for large ones.

A file holds the first axis of a volume next to each other, PyTorch wants the last one so. MONAI turns the array round
voxel by voxel, each a jump through memory, which takes longer than to unpack the file; here it is turned one plane at a
time, which the processor's cache holds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader
from monai.transforms import LoadImaged
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from med3d_components.data.volumes import Scan, open_scan

__all__ = ["FastLoadImaged", "ScanReader"]

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
        meta = {
            MetaKeys.AFFINE: img.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: img.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(img.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if img.channels > 1 else float("nan"),
        }
        if not img.has_spacing:
            meta["spacing_assumed"] = True
        return _c_order(img.voxels(), self.dtype), meta


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
