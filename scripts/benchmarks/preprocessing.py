"""Reading and preparing a CT, against MONAI's own transforms; and reading it prepared from the cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import (
    ClipIntensityPercentilesd,
    Compose,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    Spacingd,
)
from monai.utils import set_determinism
from scipy.ndimage import gaussian_filter

from med3d_components.data import ScanDataset
from scripts.benchmarks.cases import BUNDLES
from scripts.benchmarks.stopwatch import Row, as_row, measure, report
from tests.data.dicom_files import write_series

__all__ = ["caching", "preprocessing"]

CONFIGS = BUNDLES / "lung_segmentation" / "configs"
PERCENTILES = (0.5, 99.5)


def preprocessing(
    size: Sequence[int] = (512, 512, 105),
    source: Sequence[float] = (0.8, 0.8, 2.5),
    target: Sequence[float] = (1.5, 1.5, 1.5),
    repeats: int = 5,
    out: str | None = None,
) -> None:
    """Compare what lung_segmentation does with a scan before its network with the same made of MONAI's transforms.

    The scan is a synthetic CT with the noise of one, as a packed NIfTI file and as a DICOM series. The baseline is
    LoadImaged, Orientationd, Spacingd, ClipIntensityPercentilesd and NormalizeIntensityd; the bundle clips before it
    resamples. Peak memory is above what was held before.

    Args:
        size: of the scan, in voxels.
        source: its spacing in mm.
        target: spacing to reach, in mm.
        repeats: timed runs of each; the median is reported.
        out: folder for preprocessing.csv and preprocessing.json; nothing is written without it.
    """
    ours = _bundle_part("inference.json", "preprocessing", target)
    stock = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=target),
            ClipIntensityPercentilesd("image", *PERCENTILES),
            NormalizeIntensityd("image"),
        ]
    )
    with TemporaryDirectory() as folder:
        ct, _ = _write_ct(Path(folder), size, source)
        write_series(Path(folder, "series"), np.asanyarray(nib.load(ct).dataobj), nib.load(ct).affine)
        rows = [
            _row(name, partial(ours, {"image": path}), partial(stock, {"image": path}), repeats)
            for name, path in (("NIfTI, gzip", ct), ("DICOM series", str(Path(folder, "series"))))
        ]
    report("preprocessing", rows, _settings(size, source, target, repeats), out)


def caching(
    size: Sequence[int] = (512, 512, 105),
    source: Sequence[float] = (0.8, 0.8, 2.5),
    target: Sequence[float] = (1.5, 1.5, 1.5),
    region: Sequence[int] = (96, 96, 96),
    repeats: int = 5,
    out: str | None = None,
) -> None:
    """Compare a sample of lung_segmentation whose preparation is read from the cache with one that is prepared anew.

    Image and label are packed NIfTI files of a synthetic CT. The cached file is in the system's page cache if memory
    allows, as the packed ones are. The second row adds what both do each time: the random crop and augmentation.

    Args:
        size: of the scan, in voxels.
        source: its spacing in mm.
        target: spacing to reach, in mm.
        region: that is cropped, in voxels.
        repeats: timed runs of each; the median is reported.
        out: folder for caching.csv and caching.json; nothing is written without it.
    """
    chains = {
        "prepared volume": _bundle_part("train.json", "validate#preprocessing", target, region),
        "training sample": _bundle_part("train.json", "train#preprocessing", target, region),
    }
    rows = []
    with TemporaryDirectory() as folder:
        image, label = _write_ct(Path(folder), size, source)
        for name, chain in chains.items():
            runs = [
                partial(ScanDataset([{"image": image, "label": label}], chain, cache_dir=cache).__getitem__, (0, 1))
                for cache in (Path(folder, "cache"), None)
            ]
            rows.append(_row(name, runs[0], runs[1], repeats))
    report("caching", rows, {**_settings(size, source, target, repeats), "region": list(region)}, out)


def _row(name: str, ours: Callable[[], Any], baseline: Callable[[], Any], repeats: int) -> Row:
    measured = measure({"ours": ours, "baseline": baseline}, repeats)
    return as_row(name, **measured)


def _settings(
    size: Sequence[int], source: Sequence[float], target: Sequence[float], repeats: int
) -> Mapping[str, int | list[Any]]:
    return {"size": list(size), "source_mm": list(source), "target_mm": list(target), "repeats": repeats}


def _bundle_part(config: str, name: str, target: Sequence[float], region: Sequence[int] = ()) -> Any:
    """Return transforms as the bundle's config makes them, for one class and no data."""
    parser = ConfigParser()
    parser.read_config(CONFIGS / config)
    settings = {
        "percentiles": PERCENTILES,
        "intensity_range": None,
        "channel": None,
        "spacing": list(target),
        "roi_size": list(region),
    }
    parser.update({**settings, "settings": {**settings, "network": {}}, "classes": ["background", "lung"]})
    return parser.get_parsed_content(name)


def _write_ct(folder: Path, size: Sequence[int], spacing_mm: Sequence[float]) -> tuple[str, str]:
    """Write a body with two lungs and a label of them, and return the paths; the noise packs as that of a CT does."""
    set_determinism(0)
    rng = np.random.default_rng(0)
    x, y = (np.linspace(-1, 1, n)[:, None] for n in size[:2])
    body = np.where(x**2 / 0.7 + y.T**2 / 0.5 < 1, 40.0, -1000.0)
    lungs = (np.abs(x) - 0.4) ** 2 / 0.06 + y.T**2 / 0.2 < 1
    body[lungs] = -850
    volume = np.empty(size, dtype=np.int16)
    for index in range(size[2]):
        volume[:, :, index] = (body + gaussian_filter(rng.normal(0, 60, body.shape), 0.8)).clip(-1024, 3071)
    label = np.repeat(lungs[:, :, None], size[2], axis=2).astype(np.uint8)
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1])  # as scanners write it, LPS
    paths = str(folder / "ct.nii.gz"), str(folder / "label.nii.gz")
    for path, values in zip(paths, (volume, label), strict=True):
        nib.save(nib.Nifti1Image(values, affine), path)
    return paths
