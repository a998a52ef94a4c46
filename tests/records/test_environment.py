from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from med3d_components.records import describe_environment, differences, package_digest
from scripts.commands.pack_bundles import pack_bundle
from tests.conftest import ROOT


def test_the_hash_of_the_package_is_that_of_its_copy_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(pack_bundle(ROOT / "bundles" / "lung_segmentation", tmp_path)) as archive:
        note = json.loads(archive.read("lung_segmentation/med3d_components/_vendored.json"))
        archive.extractall(tmp_path)
    assert note["sha256"] == package_digest()
    unpacked = tmp_path / "lung_segmentation" / "med3d_components"
    assert package_digest(unpacked) == package_digest()
    (unpacked / "engines.py").write_text("", encoding="utf-8")
    assert package_digest(unpacked) != package_digest()


def test_variables_that_change_numbers_are_kept_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("A_TOKEN", "secret")
    found = describe_environment()
    assert found["variables"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert "secret" not in json.dumps(found)
    assert {"python", "torch", "monai", "numpy", "nibabel", "itk", "med3d_components"} <= set(found["versions"])


def test_what_differs_is_named_one_by_one() -> None:
    then, now = describe_environment(), describe_environment()
    assert differences(then, now) == []
    now["variables"] = {"OMP_NUM_THREADS": "7"}
    now["package"] = "0" * 64
    then["variables"] = {}
    assert differences(then, now) == [
        f"package: {then['package'][:12]} then, 000000000000 now",
        "OMP_NUM_THREADS: none then, 7 now",
    ]
