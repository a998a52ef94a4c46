"""Measure this package against what it replaces, side by side in one process.

Example:
    python scripts/benchmark.py spacing --size 512,512,105 --repeats 3 --out benchmarks
"""

from __future__ import annotations

import csv
import os
import platform
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd
from monai.utils import set_determinism

from med3d_components.transforms.spacing import MedianSpacingd
from med3d_components.utils import atomic_path, move_aside, run_commands, write_json

Row = dict[str, str | float]


def spacing(
    size: Sequence[int] = (512, 512, 105),
    source: Sequence[float] = (0.8, 0.8, 2.5),
    target: Sequence[float] = (1.5, 1.5, 1.5),
    repeats: int = 3,
    out: str | None = None,
) -> None:
    """Compare MedianSpacingd with MONAI's Spacingd on a synthetic volume.

    MedianSpacingd computes in single precision, Spacingd by default in double, so one more row asks Spacingd for
    single precision. The column ``centre_shift_voxels`` is the greatest distance along an axis between the physical
    centres of one object after either resampling, in voxels of the target.

    Args:
        size: of the volume, in voxels.
        source: its spacing in mm.
        target: spacing to reach, in mm.
        repeats: timed runs of each; the median is reported.
        out: folder for spacing.csv and spacing.json; nothing is written without it.
    """
    set_determinism(0)
    blob = _blob(size, source)
    label = _like(blob, (blob > 0.01).as_tensor().float())
    ct = _like(blob, 1000 * (blob.as_tensor() - 1) + 20 * torch.randn(blob.shape))
    cases: list[tuple[str, MetaTensor, MetaTensor, str, Any]] = [
        ("image, bilinear", ct, blob, "bilinear", np.float64),
        ("image, bilinear, float32", ct, blob, "bilinear", np.float32),
        ("label, nearest", label, label, "nearest", np.float64),
    ]
    rows = []
    for name, volume, shape, mode, dtype in cases:
        ours = MedianSpacingd("volume", target, mode=mode)
        theirs = Spacingd("volume", target, mode=mode, dtype=dtype)
        sample: dict[Hashable, Any] = {"volume": volume}
        row = compare(name, partial(ours, sample), partial(theirs, sample), repeats)
        our_centre, their_centre = (_centre(resample({"volume": shape})["volume"]) for resample in (ours, theirs))
        shift = our_centre - their_centre
        row["centre_shift_voxels"] = float((shift / torch.tensor(target)).abs().max())
        rows.append(row)
    settings = {"size": list(size), "source_mm": list(source), "target_mm": list(target), "repeats": repeats}
    report("spacing", rows, settings, out)


def compare(name: str, ours: Callable[[], Any], baseline: Callable[[], Any], repeats: int) -> Row:
    """Time both in alternation, after one untimed run of each, and return their medians in seconds."""
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, but must be 1 or more.")
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for run, taken in zip((ours, baseline), times, strict=True):
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat > 0:
                taken.append(time.perf_counter() - start)
    ours_s, baseline_s = (median(taken) for taken in times)
    return {"name": name, "ours_s": ours_s, "baseline_s": baseline_s, "ratio": baseline_s / ours_s}


def report(title: str, rows: Sequence[Row], settings: Mapping[str, Any], out: str | None) -> None:
    """Print the rows as a table below the machine and versions; write both to ``out`` if given.

    Files of an earlier run are moved to the folder ``earlier`` in ``out``.
    """
    about = {**settings, **machine()}
    for key, value in about.items():
        print(f"{key}: {value}")
    widths = {column: max(len(column), *(len(_cell(row[column])) for row in rows)) for column in rows[0]}
    header: Row = {column: column for column in widths}
    for line in (header, *rows):
        print("  ".join(_cell(line[column]).ljust(width) for column, width in widths.items()).rstrip())
    if out is None:
        return
    table, record = Path(out, f"{title}.csv"), Path(out, f"{title}.json")
    move_aside([table, record], Path(out, "earlier"))
    with atomic_path(table) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(widths))
        writer.writeheader()
        writer.writerows(rows)
    write_json(record, {"about": about, "rows": list(rows)})
    print(f"Wrote {table} and {record}.")


def machine() -> dict[str, str | int]:
    """Describe what the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
    }


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _blob(size: Sequence[int], spacing_mm: Sequence[float]) -> MetaTensor:
    """Make a Gaussian of value 1 at its centre, off the volume's own centre, with its affine."""
    axes = [torch.linspace(0, 1, n) for n in size]
    parts = [torch.exp(-(((axis - 0.45) / 0.12) ** 2)) for axis in axes]
    affine = torch.diag(torch.tensor([*spacing_mm, 1.0], dtype=torch.float64))
    return MetaTensor(torch.einsum("i,j,k->ijk", *parts)[None], affine=affine)


def _like(volume: MetaTensor, values: torch.Tensor) -> MetaTensor:
    return MetaTensor(values, affine=volume.affine)


def _centre(volume: MetaTensor) -> torch.Tensor:
    """Return the centre of mass of a volume (1, H, W, D) in mm."""
    weights = volume.as_tensor()[0].double()
    index = [
        (weights.sum(dim=[other for other in range(3) if other != axis]) * torch.arange(weights.shape[axis])).sum()
        for axis in range(3)
    ]
    centre: torch.Tensor = volume.affine @ torch.stack([*index, weights.sum()]) / weights.sum()
    return centre[:3]


if __name__ == "__main__":
    run_commands({"spacing": spacing})
