"""The Python examples of the documents, run as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import ROOT


def test_the_recipe_of_the_demonstration_normalises_the_voxels_above_zero_and_keeps_label_values(
    tmp_path: Path,
) -> None:
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "medicalnet_demonstration.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, object] = {}
    exec(example, names)
    image, label = np.zeros((12, 20, 10), np.float32), np.zeros((12, 20, 10), np.uint8)
    image[2:10, 3:17, 2:8] = np.random.default_rng(0).uniform(50, 150, size=(8, 14, 6))
    label[4:9, 6:12, 3:7] = 2
    paths = {name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "label")}
    for name, volume in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1.0, 3.0, 1.0])), paths[name])
    out = names["preprocessing"](paths)  # type: ignore[operator]
    assert out["image"].shape == out["label"].shape == (1, 56, 448, 448)
    above = out["image"].as_tensor()
    above = above[above > above.min()]  # the background, which was 0, is the lowest value
    assert float(above.mean()) == pytest.approx(0, abs=1e-4)
    assert float(above.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert out["label"].unique().tolist() == [0, 2]
