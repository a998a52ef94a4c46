"""Batches of one domain each, in an order that depends on seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import ignite.distributed as idist
import numpy as np
from monai.data import Dataset
from torch.utils.data import Sampler

__all__ = ["DomainBatchSampler", "ShardSampler"]


class DomainBatchSampler(Sampler[list[tuple[int, int]]]):
    """Draw batches that hold one domain only.

    Each entry of a batch is ``(index, draw_seed)``; :class:`ScanDataset` seeds its random transforms with the
    latter. So what a step sees is a function of (seed, epoch, step, rank): the same on every run, after a resume,
    and with any number of workers. In distributed training all ranks work on the same domain in each step, on
    different volumes of it, for the same number of steps: if ranks drew different domains, each branch's gradient
    would be divided by the world size.

    Args:
        dataset: whose ``data`` are items; "domain" of an item is the name of its domain.
        batch_size: volumes per batch and process. A domain's last batch of an epoch may be smaller.
        sampling: how often a domain is drawn. "proportional" to its number of volumes, so that an epoch sees every
            volume once (with several processes, a last batch smaller than their number is filled up); "even"; or a
            temperature T of 1 or more, which draws a domain of n volumes in proportion to n^(1/T). The number of
            steps per epoch is the same for all.
        seed: of the order.
        domain: of items that do not tell theirs.

    Raises:
        ValueError: for an invalid batch size or sampling.

    Example:
        >>> from monai.data import Dataset
        >>> scans = Dataset([{"domain": "brain"}, {"domain": "brain"}, {"domain": "liver"}])
        >>> sampler = DomainBatchSampler(scans, batch_size=2)
        >>> sorted(sorted(index for index, _ in batch) for batch in sampler)
        [[0, 1], [2]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        sampling: str | float = "proportional",
        seed: int = 0,
        domain: str = "",
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}, but must be a positive integer.")
        domains = [str(item.get("domain", domain)) for item in dataset.data]
        self.indices = {name: [i for i, d in enumerate(domains) if d == name] for name in sorted(set(domains))}
        self.batch_size = batch_size
        self.temperature = _temperature(sampling)
        self.seed = seed
        self.epoch, self.first_step = 1, 0
        self.rank, self.world_size = idist.get_rank(), idist.get_world_size()

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """Choose the epoch that the next iteration draws.

        Args:
            epoch: from 1.
            first_step: how many batches are left out, in a run that goes on in the middle of an epoch.
        """
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return sum(self._batches(name) for name in self.indices)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batches = [batch for name, steps in self._steps().items() for batch in self._draw(name, steps)]
        order = list(enumerate(self._generator("order").permutation(len(batches))))
        for step, position in order[self.first_step :]:
            batch = batches[position][self.rank :: self.world_size]
            seeds = np.random.SeedSequence((self.seed, self.epoch, step, self.rank)).generate_state(len(batch))
            yield [(index, int(seed)) for index, seed in zip(batch, seeds, strict=True)]

    def _batches(self, name: str) -> int:
        """Return the number of batches over all ranks that hold each volume of a domain once."""
        return math.ceil(len(self.indices[name]) / (self.batch_size * self.world_size))

    def _steps(self) -> dict[str, int]:
        """Share the steps of an epoch out among the domains, at least one each, by largest remainder."""
        if self.temperature == 1:
            return {name: self._batches(name) for name in self.indices}
        weights = np.array([len(indices) ** (1 / self.temperature) for indices in self.indices.values()])
        shares = 1 + (len(self) - len(weights)) * weights / weights.sum()
        steps = np.floor(shares).astype(int)
        steps[np.argsort(steps - shares, kind="stable")[: len(self) - steps.sum()]] += 1
        return dict(zip(self.indices, steps.tolist(), strict=True))

    def _draw(self, name: str, steps: int) -> Iterator[list[int]]:
        """Yield batches for all ranks from as many shuffles of a domain as it takes."""
        generator = self._generator(name)
        width = self.batch_size * self.world_size
        while steps > 0:
            order = generator.permutation(self.indices[name]).tolist()
            for start in range(0, len(order), width)[:steps]:
                batch = order[start : start + width]
                yield batch + (order * self.world_size)[: max(0, self.world_size - len(batch))]
                steps -= 1

    def _generator(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, *purpose.encode()))


class ShardSampler(Sampler[int]):
    """Give each process its share of the validation cases; a process that would have none repeats the first."""

    def __init__(self, length: int) -> None:
        self.indices = range(length)[idist.get_rank() :: idist.get_world_size()] or range(1)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def _temperature(sampling: str | float) -> float:
    named = {"proportional": 1.0, "even": math.inf}
    if isinstance(sampling, str) and sampling in named:
        return named[sampling]
    if isinstance(sampling, int | float) and sampling >= 1:
        return float(sampling)
    raise ValueError(f"sampling is {sampling!r}, but must be 'proportional', 'even' or a temperature of 1 or more.")
