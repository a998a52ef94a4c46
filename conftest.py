"""The doctests' stage: each example runs in a folder of its own that holds the files its text speaks of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

CENTER_MM = [31.0, -20.5, 110.0]


@pytest.fixture(scope="session")
def doctest_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write small stand-ins for a scan, a domain, nodules and downloads."""
    from tests.conftest import write_domain
    from tests.data.dicom_files import write_series

    stage = tmp_path_factory.mktemp("doctests")
    affine = np.eye(4)
    affine[:3, 3] = np.array(CENTER_MM) - 32
    volume = np.random.default_rng(0).integers(-1000, 1000, (64, 64, 64), np.int16)
    nib.save(nib.Nifti1Image(volume, affine), stage / "ct.nii.gz")
    write_domain(stage / "3DSeg-8" / "Task09_Spleen", spacing=(0.75, 0.75, 5.0))
    write_series(stage / "imagesTs" / "patient_1", volume[:16, :12, :8], affine)
    for name in ("imagesTs/patient_2", *(f"LUNA16/scan_{number}" for number in range(10))):
        (stage / name).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(volume[:8, :8, :8], affine), stage / f"{name}.nii.gz")
    for name in ("", "_1302_7", "_1326_7"):  # a scan, its right and its left lung
        path = stage / "downloads" / "VISCERAL" / f"10000100_1_CTce_ThAb{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = np.eye(8, dtype=np.uint8)[..., None] * np.ones(8, np.uint8)
        nib.save(nib.Nifti1Image(content[:: -1 if name == "_1326_7" else 1], affine), path)
    nodules = [
        {"image": "../ct.nii.gz", "patient": str(patient), "malignancy": score, "center_mm": CENTER_MM}
        for patient, score in enumerate([1, 5] * 5 + [3])
    ]
    (stage / "LIDC-IDRI").mkdir()
    (stage / "LIDC-IDRI" / "dataset.json").write_text(json.dumps({"nodules": nodules}), encoding="utf-8")
    return stage


@pytest.fixture(autouse=True)
def _doctest_folder(request: pytest.FixtureRequest) -> None:
    """Run a doctest in a copy of these files; other tests choose their own folder."""
    if isinstance(request.node, pytest.DoctestItem):
        folder = request.getfixturevalue("tmp_path") / "files"
        shutil.copytree(request.getfixturevalue("doctest_files"), folder)
        request.getfixturevalue("monkeypatch").chdir(folder)
