from __future__ import annotations

import math
from collections import Counter

import ignite.distributed as idist
import pytest
from monai.data import Dataset

from med3d_components.data import DomainBatchSampler, ShardSampler

DOMAINS = ["brain"] * 11 + ["liver"] * 3 + ["heart"] * 6


def scans(domains: list[str]) -> Dataset:
    return Dataset([{"domain": domain} for domain in domains])


def on_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(idist, "get_rank", lambda: rank)
    monkeypatch.setattr(idist, "get_world_size", lambda: world_size)


def test_a_batch_holds_one_domain_only() -> None:
    for sampling in ("proportional", "even", 2.0):
        for batch in DomainBatchSampler(scans(DOMAINS), 4, sampling):
            assert len({DOMAINS[index] for index, _ in batch}) == 1
            assert len(batch) <= 4


def test_proportional_sampling_sees_every_volume_once_an_epoch() -> None:
    sampler = DomainBatchSampler(scans(DOMAINS), 4)
    batches = list(sampler)
    assert sorted(index for batch in batches for index, _ in batch) == list(range(20))
    assert len(batches) == len(sampler) == 6


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    first, second = DomainBatchSampler(scans(DOMAINS), 4, seed=3), DomainBatchSampler(scans(DOMAINS), 4, seed=3)
    first.set_epoch(1)
    list(first)
    for sampler in (first, second):
        sampler.set_epoch(5)
    assert list(first) == list(second)
    second.set_epoch(6)
    assert list(first) != list(second)
    assert list(first) != list(DomainBatchSampler(scans(DOMAINS), 4, seed=4))


def test_no_two_draws_share_their_seed() -> None:
    sampler = DomainBatchSampler(scans(DOMAINS), 2)
    seeds = []
    for epoch in range(1, 6):
        sampler.set_epoch(epoch)
        seeds += [seed for batch in sampler for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


def test_even_and_temperature_sampling_keep_the_number_of_steps() -> None:
    domains = ["a"] * 160 + ["b"] * 16
    steps = {}
    for sampling in ("proportional", 2.0, "even"):
        sampler = DomainBatchSampler(scans(domains), 4, sampling)
        steps[sampling] = Counter(domains[batch[0][0]] for batch in sampler)
        assert sum(steps[sampling].values()) == len(sampler) == 44
    assert steps["proportional"] == {"a": 40, "b": 4}
    assert steps["even"] == {"a": 22, "b": 22}
    assert steps[2.0]["a"] / steps[2.0]["b"] == pytest.approx(math.sqrt(10), rel=0.15)


@pytest.mark.parametrize("sampling", ["proportional", "even"])
def test_ranks_share_each_steps_domain_and_draw_different_volumes(
    monkeypatch: pytest.MonkeyPatch, sampling: str
) -> None:
    ranks = []
    for rank in range(2):
        on_rank(monkeypatch, rank, 2)
        ranks.append(list(DomainBatchSampler(scans(DOMAINS), 2, sampling)))
    assert len(ranks[0]) == len(ranks[1])
    for batches in zip(*ranks, strict=True):
        assert all(batches)
        assert len({DOMAINS[index] for batch in batches for index, _ in batch}) == 1
        indices = [index for batch in batches for index, _ in batch]
        assert len(set(indices)) == len(indices)
    if sampling == "proportional":
        assert {index for batches in ranks for batch in batches for index, _ in batch} == set(range(20))


def test_a_domain_with_fewer_volumes_than_ranks_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in range(4):
        on_rank(monkeypatch, rank, 4)
        assert [[index for index, _ in batch] for batch in DomainBatchSampler(scans(["a"]), 2)] == [[0]]


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        DomainBatchSampler(scans(DOMAINS), 0)
    for sampling in ("fair", 0.5):
        with pytest.raises(ValueError, match="sampling is"):
            DomainBatchSampler(scans(DOMAINS), 1, sampling)


def test_validation_cases_are_shared_out_and_no_rank_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(3):
        on_rank(monkeypatch, rank, 3)
        shares += list(ShardSampler(7))
        assert list(ShardSampler(1)) == [0]
        assert len(ShardSampler(7)) in (2, 3)
    assert sorted(shares) == list(range(7))


def test_the_steps_that_were_made_are_left_out_and_the_others_are_the_same() -> None:
    sampler = DomainBatchSampler(scans(DOMAINS), 4)
    sampler.set_epoch(2)
    whole = list(sampler)
    for first in range(len(whole) + 1):
        sampler.set_epoch(2, first)
        assert list(sampler) == whole[first:]
    assert len(sampler) == len(whole)
