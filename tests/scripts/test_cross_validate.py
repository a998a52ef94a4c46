from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.utils import write_json
from scripts.commands.cross_validate import cross_validate
from tests.bundles.workflow import names, read_table


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return eight patients with a cube, whose nodule is larger where it is malignant."""
    nodules = []
    for patient in range(8):
        cube = np.random.default_rng(patient).normal(0, 0.1, (16, 16, 16)).astype(np.float32)
        mask = np.zeros(cube.shape, np.uint8)
        mask[: 4 + 8 * (patient % 2)] = 1
        (tmp_path / "data").mkdir(exist_ok=True)
        for kind, volume in (("image", cube + mask), ("mask", mask)):
            nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "data" / f"{kind}_{patient}.nii")
        entry = {kind: f"{kind}_{patient}.nii" for kind in ("image", "mask")}
        nodules.append({**entry, "patient": str(patient), "malignancy": 1 + 4 * (patient % 2)})
    write_json(tmp_path / "data" / "dataset.json", {"nodules": nodules})
    return tmp_path / "data"


@pytest.mark.slow
def test_every_nodule_is_scored_once_by_a_network_that_never_saw_it(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cv"
    options = {"depth": 10, "epochs": 1, "patch_size": [16] * 3, "intensity_range": [0, 1], "num_workers": 0}
    cross_validate(str(data), str(out), folds=2, **options)
    assert names(out) == {"cases.csv", "scores.json", "roc.png", "fold_0", "fold_1"}
    rows = read_table(out / "cases.csv")
    assert sorted(row["case"] for row in rows) == [f"image_{patient}" for patient in range(8)]
    for fold in range(2):
        split = json.loads((out / f"fold_{fold}" / "models" / "split.json").read_text(encoding="utf-8"))
        found = {row["case"]: row["probability"] for row in read_table(out / f"fold_{fold}" / "eval" / "cases.csv")}
        assert set(found) == set(split["validation"])
        assert all(row["probability"] == found[row["case"]] for row in rows if row["case"] in found)
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert scores["size alone"]["auc"] == 1
    assert len(scores["network"]["auc of each fold"]) == 2
    assert "size alone   AUC 1.000 (1.000 to 1.000), accuracy 1.000" in capfd.readouterr().out
    with pytest.raises(FileExistsError, match="holds results already; choose another folder"):
        cross_validate(str(data), str(out), folds=2)


def test_a_misspelt_option_is_refused_by_the_first_training(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"The training into .*fold_0 failed; its last line says why"):
        cross_validate(str(data), str(tmp_path / "cv"), folds=2, epoch=1)
    assert "did you mean --epochs?" in capfd.readouterr().err
