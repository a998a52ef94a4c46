"""The code of ``scripts/transfer_study.py``: its commands; what they run is in ``scripts.study``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from med3d_components.utils import write_json
from scripts.study.cells import Cell, check_same, run_cells
from scripts.study.plan import Data, plan_ablation, plan_transfer
from scripts.study.report import write_report

__all__ = ["ablation", "report", "run"]

BUNDLES = Path(__file__).parents[2] / "bundles"
PRETRAINING = "med3d_pretraining"


def run(
    bundle: str,
    dataset_dir: str,
    out: str,
    inits: str | Sequence[str] = "scratch",
    depths: int | Sequence[int] = 10,
    seeds: int | Sequence[int] = (0, 1, 2),
    shares: float | Sequence[float] = 1,
    epochs: int = 20,
    val_interval: int = 1,
    split_seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Train a bundle from several initialisations, and write tables, pictures and a report.

    Args:
        bundle: name of a downstream bundle.
        dataset_dir: its data.
        out: folder of the study.
        inits: scratch, medicalnet, medicalnet_23, kinetics:FILE, genesis:FILE, or NAME=WEIGHTS with any of them or the
            path of a checkpoint. "{depth}" in a path stands for the depth. scratch is trained at the paper's rate of
            0.01 and at that of pre-trained weights, 0.001. genesis is for the U-Net of Models Genesis, which is trained
            from scratch as well.
        depths: of the ResNets.
        seeds: of the trainings.
        shares: of the training cases; with fewer cases there are more epochs, so that iterations are as many.
        epochs: with all training cases.
        val_interval: in epochs, with all training cases.
        split_seed: of the split into training and validation cases, and of the shares.
        options: further options of the bundle, such as '{"patch_size": [32, 32, 32]}'. Recipe and decoder are the
            paper's unless they are given.
    """
    data = Data(*_places(bundle, dataset_dir), epochs, val_interval, split_seed, _options(options))
    cells = plan_transfer(data, inits, _list(depths), _list(seeds), _list(shares))
    _finish(Path(str(out)), cells, {"command": "run", **data.describe()})


def ablation(
    bundle: str,
    dataset_dir: str,
    domains_dir: str,
    out: str,
    counts: int | Sequence[int] = (1, 2, 4, 8),
    depth: int = 10,
    seeds: int | Sequence[int] = (0, 1, 2),
    epochs: int = 20,
    pretrain_epochs: int = 20,
    val_interval: int = 1,
    split_seed: int = 0,
    options: Mapping[str, Any] | None = None,
    pretrain_options: Mapping[str, Any] | None = None,
) -> None:
    """Pre-train on 1, 2, 4, 8 domains, train the target task from each encoder and from scratch, and report.

    Args:
        bundle: name of the downstream bundle of the target task.
        dataset_dir: data of the target task.
        domains_dir: folder of the domains.
        out: folder of the study.
        counts: numbers of domains; which ones, each seed draws.
        depth: of the ResNet.
        seeds: of domains, pre-trainings and trainings.
        epochs: of the target task.
        pretrain_epochs: of the pre-training on all domains; with fewer there are as many iterations.
        val_interval: in epochs, of the target task.
        split_seed: of the splits into training and validation cases.
        options: further options of the bundle.
        pretrain_options: further options of the pre-training bundle.
    """
    target = Data(*_places(bundle, dataset_dir), epochs, val_interval, split_seed, _options(options))
    further = _options(pretrain_options)
    domains = Data(*_places(PRETRAINING, domains_dir), pretrain_epochs, split_seed=split_seed, options=further)
    cells = plan_ablation(target, domains, _list(counts), depth, _list(seeds))
    _finish(Path(str(out)), cells, {"command": "ablation", **target.describe(), "pre-training": domains.describe()})


def report(out: str) -> None:
    """Write tables, pictures and report anew from what is finished.

    Args:
        out: folder of the study.
    """
    write_report(Path(str(out)))
    print(f"{Path(str(out), 'report.html')} is written.")


def _finish(out: Path, cells: Sequence[Cell], common: Mapping[str, Any]) -> None:
    """Run the cells, and report what there is even if one fails or the study is stopped."""
    check_same(out / "study.json", common)
    write_json(out / "study.json", common)
    try:
        failures = run_cells(cells, out)
    finally:
        if any(out.glob("cells/*/done.json")):
            report(str(out))
    if failures:
        lines = "".join(f"\n  {name}: {problem}" for name, problem in failures.items())
        raise ValueError(f"{len(failures)} of {len(cells)} trainings are not finished; run again to go on.{lines}")


def _places(bundle: str, dataset_dir: str) -> tuple[Path, Path]:
    known = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/train.json"))
    if bundle not in known:
        raise ValueError(f"There is no bundle {bundle!r}; choose one of {', '.join(known)}.")
    return BUNDLES / bundle, Path(str(dataset_dir)).expanduser().absolute()


def _options(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"options is {options!r}, but must be a mapping such as {json.dumps({'batch_size': 4})!r}.")
    return options or {}


def _list(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]
