from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import (
    Compose,
    EnsureTyped,
    Invertd,
    Lambdad,
    NormalizeIntensityd,
    Orientationd,
    RandGaussianNoised,
    ScaleIntensityRanged,
    Transform,
)

from med3d_components.data import CachedTransform, DataError, ScanDataset
from med3d_components.transforms import (
    FastClipIntensityPercentilesd,
    FastLoadImaged,
    MedianSpacingd,
    RandForegroundCropd,
    SelectChanneld,
)
from tests.data.dicom_files import write_series

KEYS = ["image", "label"]
AFFINE = np.diag([-0.9, 0.8, 2.0, 1.0])


class Count(Transform):
    """Counts its calls, in all objects."""

    calls = 0

    def __call__(self, data: Any) -> Any:
        Count.calls += 1
        return data


@pytest.fixture(autouse=True)
def _from_zero() -> None:
    Count.calls = 0


def write(folder: Path, name: str = "ct", seed: int = 0, size: tuple[int, ...] = (20, 18, 12)) -> dict[str, str]:
    values = np.random.default_rng(seed).normal(0, 300, size).astype(np.int16)
    item = {"image": str(folder / f"{name}.nii.gz"), "label": str(folder / f"{name}_seg.nii.gz"), "case": name}
    nib.save(nib.Nifti1Image(values, AFFINE), item["image"])
    nib.save(nib.Nifti1Image((values > 100).astype(np.uint8), AFFINE), item["label"])
    return item


def deterministic(upper: float = 99.5) -> list[Any]:
    return [
        FastLoadImaged(KEYS, ensure_channel_first=True),
        Orientationd(KEYS, axcodes="RAS", labels=None),
        FastClipIntensityPercentilesd("image", 0.5, upper),
        MedianSpacingd(KEYS, (1.0, 1.0, 1.5)),
        NormalizeIntensityd("image"),
        Count(),
    ]


def training() -> Compose:
    return Compose(
        [
            *deterministic(),
            RandForegroundCropd(KEYS, (8, 8, 8)),
            RandGaussianNoised("image", prob=1.0),
            EnsureTyped(KEYS, track_meta=False),
        ]
    )


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.prepared"))


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in KEYS)


def test_the_numbers_are_the_same_without_a_cache_when_it_is_filled_and_when_it_is_read(tmp_path: Path) -> None:
    items = [write(tmp_path, f"ct{index}", index) for index in range(2)]
    plain, cached = ScanDataset(items, training()), ScanDataset(items, training(), cache_dir=tmp_path / "cache")
    for seed in range(3):
        for index in range(2):
            assert equal(plain[index, seed], cached[index, seed])
    assert Count.calls == 6 + 2
    assert len(entries(tmp_path / "cache")) == 2


def test_only_what_comes_before_the_first_random_transform_is_kept(tmp_path: Path) -> None:
    cached = ScanDataset([write(tmp_path)], training(), cache_dir=tmp_path / "cache")
    first, again, other = cached[0, 1], cached[0, 1], cached[0, 2]
    assert equal(first, again)
    assert not torch.equal(first["image"], other["image"])
    assert Count.calls == 1


def test_one_of_several_series_is_prepared_anew_when_a_file_of_its_folder_changes(tmp_path: Path) -> None:
    for uid in ("1.2.3", "1.2.4"):
        write_series(tmp_path / "two", np.random.default_rng(0).normal(size=(4, 5, 3)), np.eye(4), series_uid=uid)
    item = {"image": f"{tmp_path}/two::1.2.4"}
    cached = CachedTransform(Compose([FastLoadImaged("image")]), tmp_path / "cache", 1)
    before = cached.key(item)
    assert cached(item)["image"].shape == (4, 5, 3)
    assert cached.key(item) == before
    file = next((tmp_path / "two").iterdir())
    os.utime(file, ns=(0, 0))
    assert cached.key(item) != before


def test_a_validation_item_keeps_its_geometry_and_can_be_inverted(tmp_path: Path) -> None:
    item, chain = write(tmp_path), Compose(deterministic())
    cached = ScanDataset([item], chain, cache_dir=tmp_path / "cache")
    made, read = cached[0], ScanDataset([item], Compose(deterministic()), cache_dir=tmp_path / "cache")[0]
    assert Count.calls == 1
    assert equal(made, read)
    assert read["case"] == "ct"
    assert isinstance(read["image"], MetaTensor)
    assert torch.equal(made["image"].affine, read["image"].affine)
    assert made["image"].meta["filename_or_obj"] == read["image"].meta["filename_or_obj"]
    assert np.array_equal(made["image"].meta["original_affine"], read["image"].meta["original_affine"])
    inverse = Invertd("label", transform=chain, orig_keys="label", nearest_interp=True, to_tensor=True)
    assert inverse(read)["label"].shape == (1, 20, 18, 12)
    assert torch.allclose(inverse(read)["label"].affine, torch.as_tensor(AFFINE))


def test_an_item_read_may_be_changed_in_place_without_changing_the_entry(tmp_path: Path) -> None:
    cached = ScanDataset([write(tmp_path)], Compose(deterministic()), cache_dir=tmp_path / "cache")
    expected = cached[0]["image"].clone()
    cached[0]["image"].zero_()
    assert torch.equal(cached[0]["image"], expected)


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.data.test_cache import Count, ScanDataset, checksums, training
print(*checksums(ScanDataset(json.loads(sys.argv[2]), training(), cache_dir=sys.argv[3])), Count.calls)
"""


def checksums(dataset: ScanDataset) -> list[int]:
    return [zlib.crc32(dataset[index, 5][key].numpy().tobytes()) for index in range(len(dataset)) for key in KEYS]


def fill(dataset: ScanDataset, together: Any, results: Any) -> None:
    together.wait()
    results.put(checksums(dataset))


def test_two_processes_fill_a_cache_at_once_and_read_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [write(tmp_path, f"ct{index}", index) for index in range(6)]
    context = multiprocessing.get_context("fork")
    together, results = context.Barrier(2), context.Queue()
    cached = ScanDataset(items, training(), cache_dir=tmp_path / "cache")
    processes = [context.Process(target=fill, args=(cached, together, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    expected = checksums(ScanDataset(items, training()))
    Count.calls = 0
    assert [*found, checksums(cached)] == 3 * [expected]
    assert Count.calls == 0
    assert len(entries(tmp_path / "cache")) == 6 == len(list((tmp_path / "cache").iterdir()))
    assert not caplog.records


def test_a_later_run_prepares_nothing(tmp_path: Path) -> None:
    items = [write(tmp_path, f"ct{index}", index) for index in range(2)]
    expected = checksums(ScanDataset(items, training(), cache_dir=tmp_path / "cache"))
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[2]), json.dumps(items), str(tmp_path / "cache")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [int(number) for number in run.stdout.split()] == [*expected, 0]


def test_workers_share_the_cache_and_a_dataset_can_be_sent_to_one(tmp_path: Path) -> None:
    items = [write(tmp_path, f"ct{index}", index) for index in range(3)]
    dataset = ScanDataset(items, training(), cache_dir=tmp_path / "cache", seed=4)
    batches = list(DataLoader(dataset, num_workers=2))
    assert len(entries(tmp_path / "cache")) == 3
    sent = pickle.loads(pickle.dumps(dataset))
    for index in range(3):
        assert torch.equal(sent[index]["image"], batches[index]["image"][0])
    assert Count.calls == 0  # only the workers prepared


def change_content(item: dict[str, str]) -> None:
    write(Path(item["image"]).parent, seed=9)


def change_time(item: dict[str, str]) -> None:
    os.utime(item["label"], (1, 1))


@pytest.mark.parametrize("change", [change_content, change_time])
def test_a_changed_file_is_prepared_anew(tmp_path: Path, change: Callable[[dict[str, str]], None]) -> None:
    item = write(tmp_path)
    cached = ScanDataset([item], training(), cache_dir=tmp_path / "cache")
    cached[0, 1]
    change(item)
    assert equal(cached[0, 1], ScanDataset([item], training())[0, 1])
    assert len(entries(tmp_path / "cache")) == 2


def test_another_setting_another_item_and_another_version_are_other_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = write(tmp_path)

    def key(upper: float = 99.5, **other: Any) -> str:
        return CachedTransform(Compose(deterministic(upper)), tmp_path, 1).key({**item, **other})

    keys = [key(), key(99), key(domain="liver"), key(center_mm=[1, 2, 3]), key(center_mm=np.array([1, 2]))]
    monkeypatch.setattr("med3d_components.__version__", "0.0.0")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[-1]


def test_arrays_and_sets_of_transforms_are_settings_too(tmp_path: Path) -> None:
    def key(value: Any) -> str:
        transform = Count()
        transform.value = value
        return CachedTransform(Compose([transform]), tmp_path, 1).key({})

    values = [np.zeros(2), np.ones(2), torch.zeros(2), {"a", "b"}, {"a"}, slice(3), np.float32, np.median]
    assert len({key(value) for value in values}) == len(values)
    assert key({"b", "a"}) == key({"a", "b"})


def test_a_chain_that_was_used_before_has_the_key_of_a_new_one(tmp_path: Path) -> None:
    item, chain = write(tmp_path), Compose(deterministic())
    new = CachedTransform(chain, tmp_path, 1).key(item)
    chain(item)
    assert CachedTransform(chain, tmp_path, 1).key(item) == new


def test_every_file_of_a_folder_and_those_beside_a_header_count(tmp_path: Path) -> None:
    cached = CachedTransform(Compose([Count()]), tmp_path / "cache", 1)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_text("one", encoding="utf-8")
    (tmp_path / "ct.mhd").write_text("ElementDataFile = ct.raw", encoding="utf-8")
    (tmp_path / "ct.raw").write_text("voxels", encoding="utf-8")
    items: list[dict[str, Any]] = [{"image": str(tmp_path / "series")}, {"image": [str(tmp_path / "ct.mhd")]}]
    before = [cached.key(item) for item in items]
    assert [cached.key(item) for item in items] == before
    (tmp_path / "series" / "2.dcm").write_text("two", encoding="utf-8")
    (tmp_path / "ct.raw").write_text("others", encoding="utf-8")
    os.utime(tmp_path / "ct.raw", (1, 1))
    assert not set(before) & {cached.key(item) for item in items}


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def empty(content: bytes) -> bytes:
    return b""


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


@pytest.mark.parametrize("damage", [cut, flip, empty, zeros])
def test_a_damaged_entry_is_made_anew_and_the_reason_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    cached = ScanDataset([write(tmp_path)], training(), cache_dir=tmp_path / "cache")
    expected = cached[0, 1]
    (path,) = entries(tmp_path / "cache")
    path.write_bytes(damage(path.read_bytes()))
    assert equal(cached[0, 1], expected)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path} is damaged and made anew (")
    caplog.clear()
    assert equal(cached[0, 1], expected)
    assert not caplog.records
    assert Count.calls == 2


def test_a_file_that_holds_code_is_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from med3d_components.data.cache import _seal

    cached = ScanDataset([write(tmp_path)], training(), cache_dir=tmp_path / "cache")
    cached[0, 1]
    (path,) = entries(tmp_path / "cache")
    torch.save({"image": Count()}, path)
    _seal(path)
    cached[0, 1]
    assert "Weights only load failed" in caplog.text


def test_the_entries_read_longest_ago_leave_when_the_limit_is_reached(tmp_path: Path) -> None:
    items = [write(tmp_path, f"ct{index}", index) for index in range(4)]
    cache = tmp_path / "cache"
    ScanDataset(items, training(), cache_dir=cache)[0, 1]
    (first,) = entries(cache)
    other = cache / "model.pt"
    other.write_bytes(bytes(10**6))
    limit = 3.5 * first.stat().st_size
    cached = ScanDataset(items, training(), cache_dir=cache, cache_gb=limit / 1e9)
    for index in (1, 2, 0):  # reading the first again makes the second the oldest
        time.sleep(0.02)
        cached[index, 1]
    (second,) = (path for path in sorted(entries(cache), key=lambda path: path.stat().st_mtime_ns)[:1])
    assert second != first
    cached[3, 1]
    kept = entries(cache)
    assert first in kept
    assert second not in kept
    assert len(kept) == 3
    assert sum(path.stat().st_size for path in kept) <= limit
    assert other.exists()


def test_an_entry_above_the_limit_is_not_kept_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached = ScanDataset([write(tmp_path)], training(), cache_dir=tmp_path / "cache", cache_gb=1e-6)
    assert equal(cached[0, 1], cached[0, 1])
    assert not list((tmp_path / "cache").iterdir())
    assert "more than cache_gb, 1e-06 GB" in caplog.text


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / "cache" / ".writing-old", tmp_path / "cache" / ".writing-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"half")
    os.utime(old, (1, 1))
    ScanDataset([write(tmp_path)], training(), cache_dir=tmp_path / "cache")[0, 1]
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_written_costs_the_cache_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    item = write(tmp_path)
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    cached = ScanDataset([item], training(), cache_dir=tmp_path / "file" / "cache")
    assert equal(cached[0, 1], ScanDataset([item], training())[0, 1])
    assert "is not kept" in caplog.text


def test_an_entry_holds_the_voxels_in_use_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "mr.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 10, 8), dtype=np.float32), AFFINE), path)
    chain = Compose([FastLoadImaged("image", ensure_channel_first=True), SelectChanneld("image", 2)])
    cached = ScanDataset([{"image": path}], chain, cache_dir=tmp_path / "cache")
    shape = cached[0]["image"].shape
    assert cached[0]["image"].shape == shape == (1, 20, 20, 10)
    assert entries(tmp_path / "cache")[0].stat().st_size < 2 * 20 * 20 * 10 * 4


def test_an_error_of_the_preparation_names_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    item = write(tmp_path)
    cached = ScanDataset([item], training(), cache_dir=tmp_path / "cache")
    Path(item["image"]).write_bytes(b"no volume")
    with pytest.raises(DataError, match=r"ct\.nii\.gz"):
        cached[0, 1]
    assert not entries(tmp_path / "cache")


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(ValueError, match=r"cache_gb is .* positive number of GB"):
        ScanDataset([{}], Compose([Count()]), cache_dir=tmp_path, cache_gb=limit)


def test_a_function_without_a_name_is_refused_before_the_first_random_transform_alone(tmp_path: Path) -> None:
    nameless = Lambdad("image", lambda image: image + 1)
    with pytest.raises(ValueError, match=r"<lambda>.*leave cache_dir out"):
        ScanDataset([{}], Compose([nameless]), cache_dir=tmp_path)
    scale = ScaleIntensityRanged("image", 0, 1, 0, 1)
    ScanDataset([{}], Compose([scale, RandGaussianNoised("image"), nameless]), cache_dir=tmp_path)
