"""Trainings on labels that lie on their image in another way, or outline nothing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from med3d_components.data import SegmentationDatalist
from tests.bundles.workflow import configs, copy_bundle, read_table
from tests.conftest import MakeDomain, RunBundle


def train(run_bundle: RunBundle, folder: Path, data: Path) -> tuple[str, Path]:
    """Train the lung bundle for two epochs; return what was printed, and the run."""
    bundle = copy_bundle("lung_segmentation", folder)
    files = configs(bundle, "train", "smoke")
    return run_bundle("run", "training", "--config_file", files, "--dataset_dir", data), bundle


def test_a_training_that_nothing_validates_says_so_and_keeps_its_last_weights(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    data = make_domain(tmp_path / "Lungs", cases=6)
    for name in SegmentationDatalist(data).split["validation"]:
        path = data / "labelsTr" / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros((24, 28, 20), np.uint8), np.eye(4)), path)
    output, bundle = train(run_bundle, tmp_path, data)
    assert "No validation label of Lungs has a voxel of any class: nothing can be scored, and the last wei" in output
    assert "best         no epoch has a score" in output
    assert "nan" not in output.replace("val_mean_dice nan", "").replace("class 1 nan", "")
    last = torch.load(bundle / "checkpoints" / "last.pt", weights_only=True)
    model = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert last["epoch"] == 2
    assert all(torch.equal(value, last["average"]["network"][key]) for key, value in model.items())
    assert [row["val_mean_dice"] for row in read_table(bundle / "eval" / "metrics.csv")] == ["", ""]


@pytest.mark.slow
def test_labels_that_are_turned_or_cover_a_part_train_the_same_network(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    networks, scores = [], []
    for kind in ("as they are", "turned"):
        data = make_domain(tmp_path / kind / "Lungs", cases=6)
        for path in (data / "labelsTr").iterdir() if kind == "turned" else ():
            label = nib.load(path)
            box = tuple(
                slice(max(0, low - 1), high + 2) for low, high in map(ends, np.nonzero(np.asarray(label.dataobj)))
            )
            nib.save(label.slicer[box].as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), path)
        _, bundle = train(run_bundle, tmp_path / kind, data)
        networks.append(torch.load(bundle / "models" / "model.pt", weights_only=True))
        scores.append(read_table(bundle / "eval" / "cases.csv"))
    assert scores[0] == scores[1]
    assert all(torch.equal(value, networks[1][key]) for key, value in networks[0].items())


def ends(indices: np.ndarray) -> tuple[int, int]:
    return int(indices.min()), int(indices.max()) + 1
