from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandGaussianNoise

from med3d_components.data import DataError, ScanDataset
from med3d_components.transforms import FastLoadImaged


def test_a_draw_depends_on_its_seed_and_on_nothing_before_it() -> None:
    def take(item: dict[str, torch.Tensor]) -> torch.Tensor:
        return item["image"]

    dataset = ScanDataset([{"image": torch.zeros(4)}], Compose([take, RandGaussianNoise(prob=1.0)]))
    first = dataset[0, 5]
    dataset[0]
    assert torch.equal(dataset[0, 5], first)
    assert not torch.equal(dataset[0, 6], first)


def test_with_a_seed_of_its_own_an_item_is_the_same_each_time_and_no_other() -> None:
    dataset = ScanDataset([torch.zeros(4), torch.zeros(4)], Compose([RandGaussianNoise(prob=1.0)]), seed=3)
    first = dataset[0]
    assert not torch.equal(dataset[1], first)
    assert torch.equal(dataset[0], first)
    assert torch.equal(dataset[1, 3], first)


def test_an_error_names_the_file_and_its_first_cause() -> None:
    def fail(item: dict[str, str]) -> None:
        try:
            raise IndexError("There is\nno such plane")
        except IndexError as e:
            raise RuntimeError("applying transform") from e

    with pytest.raises(DataError, match=r"^scan\.nii: There is no such plane$"):
        ScanDataset([{"image": "scan.nii"}], fail)[0]


def test_a_scan_that_is_cut_off_says_so_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    volume = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"scan\.nii\.gz is cut off or damaged: .+; copy it anew\.$"):
        ScanDataset([{"image": str(path)}], FastLoadImaged("image"))[0]
