"""How time and memory grow with the size of volumes, the number of domains and the number of volumes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, NormalizeIntensityd
from monai.utils import ensure_tuple, set_determinism

from med3d_components.data import DomainBatchSampler, MultiDomainDatalist
from med3d_components.handlers.drawing import save_figure
from med3d_components.networks import Med3DNet
from med3d_components.transforms import FastClipIntensityPercentilesd, MedianSpacingd
from scripts.benchmarks.stopwatch import Row, measure, report

__all__ = ["growth"]


def growth(
    sizes: Sequence[int] | int = (128, 192, 256, 384),
    domains: Sequence[int] | int = (8, 23, 100),
    volumes: Sequence[int] | int = (100, 1_000, 10_000, 100_000),
    repeats: int = 1,
    out: str | None = None,
) -> None:
    """Measure three things, each at several sizes, and by which power of the size their time grows.

    - Preparing a cube of noise: clipping, resampling to half as many voxels again, normalising.
    - A training step of the pre-training network, depth 10, with one branch for each of so many domains.
    - Reading the headers of so many images and labels, and drawing an epoch of them. The files are one scan under so
      many names.

    A power of 1 is linear growth. Peak memory is above what was held before.

    Args:
        sizes: edges of the cubes, in voxels.
        domains: numbers of domains.
        volumes: numbers of volumes.
        repeats: timed runs; the median is reported; one for runs over 30 s.
        out: folder for growth.csv, growth.json and growth.png; nothing is written without it.
    """
    set_determinism(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for what, units, prepare in (
            ("voxels prepared", [size**3 for size in ensure_tuple(sizes)], _preparing),
            ("domains, a step", ensure_tuple(domains), _stepping),
            ("volumes, their headers", ensure_tuple(volumes), partial(_listing, Path(folder))),
        ):
            found = [(count, measure({"run": prepare(count)}, repeats)["run"]) for count in units]
            power = _power([count for count, _ in found], [one.seconds for _, one in found])
            rows += [
                {"name": what, "number": count, "s": one.seconds, "peak_mib": one.peak_mib, "power": power}
                for count, one in found
            ]
    report("growth", rows, {"repeats": repeats}, out)
    if out is not None:
        _draw(Path(out, "growth.png"), rows)


def _preparing(voxels: int) -> Callable[[], Any]:
    edge = round(voxels ** (1 / 3))
    image = MetaTensor(torch.randn(1, edge, edge, edge), affine=torch.diag(torch.tensor([0.8, 0.8, 2.0, 1.0])))
    chain = Compose(
        [
            FastClipIntensityPercentilesd("image", lower=0.5, upper=99.5),
            MedianSpacingd("image", (1.0, 1.0, 1.33)),
            NormalizeIntensityd("image"),
        ]
    )
    return lambda: chain({"image": image})


def _stepping(domains: int) -> Callable[[], Any]:
    network = Med3DNet({f"domain {i}": 2 for i in range(domains)}, 10)
    optimizer = torch.optim.Adam(network.parameters())
    image = torch.randn(1, 1, 64, 64, 64)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(image, domain=f"domain {domains - 1}").square().mean().backward()
        optimizer.step()

    return step


def _listing(folder: Path, volumes: int) -> Callable[[], Any]:
    """Return what lists a domain of so many cases, all of which are links to one image and one label."""
    domain = folder / str(volumes) / "Domain"
    entries: list[dict[str, Any]] = []
    for kind in ("image", "label"):
        (domain / f"{kind}sTr").mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), domain / f"{kind}.nii")
    for case in range(volumes):
        entries.append({kind: f"{kind}sTr/{case}.nii" for kind in ("image", "label")})
        for path in entries[-1].values():
            (domain / path).symlink_to(domain / f"{path.split('s')[0]}.nii")
        entries[-1]["voxels"] = {"1": 64}  # as an import writes it
    content = {"labels": {"0": "background", "1": "one"}, "training": entries}
    (domain / "dataset.json").write_text(json.dumps(content), encoding="utf-8")

    def read() -> int:
        datalist = MultiDomainDatalist(str(domain.parent))
        return len(list(DomainBatchSampler(Dataset(datalist.training), batch_size=4)))

    return read


def _power(numbers: Sequence[int], seconds: Sequence[float]) -> float:
    """Return by which power of a number the time grows, by least squares on a double logarithmic scale."""
    return float(np.polyfit(np.log(numbers), np.log(seconds), 1)[0]) if len(numbers) > 1 else float("nan")


def _draw(path: Path, rows: Sequence[Row]) -> None:
    panels = pd.DataFrame(rows).groupby("name", sort=False)
    figure = Figure(figsize=(4 * len(panels), 3.5), layout="constrained")
    for (name, own), axis in zip(panels, np.atleast_1d(figure.subplots(1, len(panels))), strict=True):
        numbers, seconds = own["number"], own["s"]
        axis.loglog(numbers, seconds, marker="o")
        axis.set_xticks(numbers, [f"{number:,.0f}" if number < 1e6 else f"{number / 1e6:.0f} M" for number in numbers])
        axis.xaxis.minorticks_off()
        limits = (min(seconds) / 3, max(seconds) * 3)  # a decade or so: else a flat line looks like a steep one
        axis.set(title=f"{name}: power {own['power'].iloc[0]:.2f}", xlabel="number", ylabel="s", ylim=limits)
        axis.grid(alpha=0.3)
    save_figure(figure, path)
