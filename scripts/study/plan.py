"""Which trainings a study is made of, in an order in which partial results are of use: seed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from med3d_components.data.splits import draw_key
from scripts.study.bundles import BundleFacts, equal_budget, is_synthetic, read_bundle, sha256
from scripts.study.cells import Cell
from scripts.study.inits import Init, Network, list_networks, parse_inits

__all__ = ["Data", "plan_ablation", "plan_transfer"]

RESERVED = (
    *("architecture", "ckpt_dir", "dataset_dir", "depth", "domains", "epochs", "keep", "learning_rate", "output_dir"),
    *("pretrained_weights", "resume", "run_dir", "seed", "split_seed", "train_share", "val_interval"),
)
"""Options that the study sets itself."""
PAPER = {"recipe": "paper", "decoder": "paper"}
"""What the paper's comparison was made with, where a bundle has these options."""


@dataclass(frozen=True)
class Data:
    """A bundle, the data it is trained on, and what all its trainings have in common.

    Attributes:
        bundle: its folder.
        dataset_dir: of its data.
        epochs: with all training cases.
        val_interval: in epochs, with all training cases.
        split_seed: of the split and of the share, the same for all seeds.
        options: more options of the bundle, beside recipe and decoder of the paper, which they may change.
    """

    bundle: Path
    dataset_dir: Path
    epochs: int
    val_interval: int = 1
    split_seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = sorted(set(self.options) & set(RESERVED))
        if own:
            raise ValueError(f"options has {', '.join(own)}, which the study sets itself; leave it out.")
        if not (self.epochs >= 1 and self.val_interval >= 1 and self.epochs % self.val_interval == 0):
            raise ValueError(
                f"epochs is {self.epochs} and val_interval {self.val_interval}, but epochs must be a multiple of it, "
                "so that the last epoch is validated."
            )

    def read(self, **options: Any) -> BundleFacts:
        """Read the facts of the bundle with some more options."""
        return read_bundle(self.bundle, {**self._options(), **options})

    def cell(self, name: str, facts: Mapping[str, Any], steps: int, full_steps: int, **options: Any) -> Cell:
        """Return a training of as many iterations as that with all cases."""
        epochs, interval = equal_budget(self.epochs, self.val_interval, full_steps, steps)
        budget = {"epochs": epochs, "val_interval": interval}
        facts = {**facts, "name": name, "steps": steps, "iterations": steps * epochs}
        return Cell(name, self.bundle, {**self._options(), **budget, **options}, facts)

    def describe(self) -> dict[str, Any]:
        """Return what all cells have in common, for ``study.json``."""
        return {
            "bundle": self.bundle.name,
            "dataset_dir": str(self.dataset_dir),
            "sha256 of dataset.json": sha256(self.dataset_dir / "dataset.json"),
            "synthetic": is_synthetic(self.dataset_dir),
            "epochs": self.epochs,
            "val_interval": self.val_interval,
            "split_seed": self.split_seed,
            "options": dict(self.options),
        }

    def _options(self) -> dict[str, Any]:
        own = ConfigParser.load_config_file(self.bundle / "configs" / "train.json")
        paper = {name: value for name, value in PAPER.items() if name in own}
        return {"dataset_dir": str(self.dataset_dir), "split_seed": self.split_seed, **paper, **self.options}


def plan_transfer(
    data: Data, inits: str | Sequence[str], depths: Sequence[int], seeds: Sequence[int], shares: Sequence[float]
) -> list[Cell]:
    """Plan the comparison of initialisations.

    Weights whose name holds "{depth}" are left out where there is no such file.

    Args:
        data: bundle and data.
        inits: as :func:`parse_inits` takes them.
        depths: of the ResNets.
        seeds: of the trainings: first weights, order of the cases, augmentation.
        shares: of the training cases.

    Raises:
        ValueError: for whatever does not fit together, before anything is trained.
    """
    starts = parse_inits(inits)
    networks = list_networks(starts, depths, data.options)
    found = [(network, init, init.find(network)) for network in networks for init in starts if init.fits(network)]
    for network, init, weights in found:
        if weights is None:
            print(f"{init.label} is left out for {network.label}: {init.weights} does not exist for it.")
    facts = {share: _read(data, networks[0], share) for share in sorted({*shares, 1}, reverse=True)}
    return [
        _target(data, network, replace(init, weights=weights), share, seed, facts)
        for seed in seeds
        for share in sorted(shares, reverse=True)
        for network, init, weights in found
        if weights is not None
    ]


def plan_ablation(target: Data, domains: Data, counts: Sequence[int], depth: int, seeds: Sequence[int]) -> list[Cell]:
    """Plan pre-trainings on more and more domains, and a training of the target task from each.

    Each seed draws an order of the domains by a hash; the first ones are used. All pre-trainings have the same number
    of iterations, to half an epoch, and validate after the last epoch alone, so that its encoder counts.

    Args:
        target: the target bundle and its data.
        domains: the pre-training bundle and its folder of domains; its epochs are those of all domains.
        counts: numbers of domains.
        depth: of the ResNet.
        seeds: of domains, pre-trainings and trainings.

    Raises:
        ValueError: if there are fewer domains, and for whatever does not fit together.
    """
    network = Network(f"R{depth}", {"depth": depth})
    pretraining = domains.read()
    wrong = [count for count in counts if not 1 <= count <= len(pretraining.training)]
    if wrong:
        raise ValueError(f"counts has {wrong[0]}, but {domains.dataset_dir} holds {len(pretraining.training)} domains.")
    domains = replace(domains, val_interval=domains.epochs)
    facts = {1.0: _read(target, network, 1)}
    return [cell for seed in seeds for cell in _ablation(target, domains, counts, network, seed, facts, pretraining)]


def _ablation(
    target: Data,
    domains: Data,
    counts: Sequence[int],
    network: Network,
    seed: int,
    facts: Mapping[float, BundleFacts],
    pretraining: BundleFacts,
) -> Iterator[Cell]:
    for scratch in parse_inits("scratch"):
        yield _target(target, network, scratch, 1, seed, facts)
    drawn = sorted(pretraining.training, key=lambda name: draw_key(seed, name))
    for count in sorted(counts):
        used = sorted(drawn[:count])
        options = {**network.options, "pretrained_weights": "none", "seed": seed, "domains": used}
        about = {"role": "pre-training", "domains": used, "seed": seed, "network": network.label}
        name = f"pretraining_{network.label}_domains_{count}_seed{seed}"
        yield domains.cell(name, about, pretraining.steps(*used), pretraining.steps(), **options)
        init = Init(f"domains_{count}", f"the encoder of {name}")
        cell = _target(target, network, init, 1, seed, facts)
        yield replace(cell, after=name, facts={**cell.facts, "domains": used})


def _read(data: Data, network: Network, share: float) -> BundleFacts:
    return data.read(train_share=share, **network.options)


def _target(
    data: Data, network: Network, init: Init, share: float, seed: int, facts: Mapping[float, BundleFacts]
) -> Cell:
    """Return one training of the comparison."""
    here = facts[share]
    about = {
        "role": "comparison",
        "network": network.label,
        "init": init.label,
        "share": share,
        "seed": seed,
        "metric": here.metric,
        "classes": here.classes,
        "training_cases": sum(here.training.values()),
        "validation_cases": here.validation,
    }
    options = {
        **network.options,
        "pretrained_weights": init.weights,
        "learning_rate": init.learning_rate,
        "seed": seed,
        "train_share": share,
    }
    name = f"{network.label}_{init.label}_share{share:g}_seed{seed}"
    return data.cell(name, about, here.steps(), facts[1].steps(), **options)
