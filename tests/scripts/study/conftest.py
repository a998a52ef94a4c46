"""Cells that nothing has trained: a runner that writes what a bundle would have written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from med3d_components.utils import write_json, write_table
from scripts.study.cells import Cell, run_cells

Curve = Sequence[float]
MakeStudy = Callable[..., Path]


class Stub:
    """Stands in for the process of a training; notes every run and writes the curve that belongs to it."""

    def __init__(self, curves: dict[str, Curve] | None = None, accuracy: bool = False) -> None:
        self.curves = curves or {}
        self.accuracy = accuracy
        self.runs: list[dict[str, str]] = []
        self.code = 0

    def __call__(self, command: Sequence[str], folder: Path, log: IO[bytes]) -> int:
        options = dict(zip((name[2:] for name in command[5::2]), command[6::2], strict=True))
        self.runs.append(options)
        log.write(b"2026-01-01 00:00:00 WARNING med3d_components.handlers.start: seen before\nerror: no luck\n")
        if self.code == 0:
            write_results(folder, self.curves.get(folder.name, (0.2, 0.5)), self.accuracy)
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / "encoder.pt").write_bytes(b"weights")
        return self.code


def write_results(folder: Path, curve: Curve, accuracy: bool = False) -> None:
    """Write metrics.csv, with an epoch that is not validated before each that is, and cases.csv."""
    rows: list[dict[str, Any]] = []
    about = {"time": "2026-01-01T00:00:00+00:00", "learning_rate": 0.5, "train_loss": 1.0}
    for index, score in enumerate(curve):
        rows.append({"epoch": 2 * index + 1, "step": 20 * index + 10, **about})
        rows.append({"epoch": 2 * index + 2, "step": 20 * index + 20, **about, "val_mean_dice": score})
    if accuracy:
        rows[-1]["accuracy"] = 0.75
    write_table(folder / "eval" / "metrics.csv", rows)
    cases = [{"case": name, "class 1": curve[-1] + add} for name, add in (("a", 0.1), ("b", -0.1), ("c", 0.0))]
    write_table(folder / "eval" / "cases.csv", [*cases, {"case": "without", "class 1": float("nan")}])


def make_cell(init: str = "scratch", seed: int = 0, share: float = 1, network: str = "R10", **options: Any) -> Cell:
    """Return a cell of four validations of 20 iterations each."""
    facts = {
        "role": "comparison",
        "network": network,
        "init": init,
        "share": share,
        "seed": seed,
        "metric": "val_mean_dice",
    }
    facts |= {"classes": ["background", "class 1"], "training_cases": int(40 * share), "validation_cases": 4}
    facts |= {"steps": 10, "iterations": 80}
    own = {"depth": 10, "seed": seed, "train_share": share, "epochs": 8, "learning_rate": 0.01, **options}
    return Cell(
        f"{network}_{init}_share{share:g}_seed{seed}", Path("bundle"), {"pretrained_weights": "none"} | own, facts
    )


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Write a study whose cells have the given curves: by init, a curve for each seed."""

    def make(
        curves: dict[str, Sequence[Curve]],
        bundle: str = "lung_segmentation",
        synthetic: bool = False,
        shares: Sequence[float] = (1,),
        **weights: str,
    ) -> Path:
        out = tmp_path / "study"
        common = {"bundle": bundle, "dataset_dir": "/data/Lungs", "sha256 of dataset.json": "0" * 64, "epochs": 8}
        common |= {"synthetic": synthetic, "val_interval": 2, "split_seed": 0, "options": {"batch_size": 4}}
        write_json(out / "study.json", common)
        cells = {
            (init, seed, share): make_cell(init, seed, share, pretrained_weights=weights.get(init, "none"))
            for init, of_seeds in curves.items()
            for seed in range(len(of_seeds))
            for share in shares
        }
        stub = Stub({cell.name: curves[init][seed] for (init, seed, _), cell in cells.items()}, accuracy=True)
        assert run_cells(list(cells.values()), out, stub) == {}
        return out

    return make
