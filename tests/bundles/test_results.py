"""What each bundle's inference writes lies on its scan, whatever its header says."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from tests.bundles.workflow import copy_bundle, leave_model, names
from tests.conftest import ROOT
from tests.masks.shapes import nested_mask, scan_header, write_by_bytes

MASKS = ["lung_segmentation", "liver_ct_coarse_segmentation", "liver_ct_fine_segmentation", "med3d_pretraining"]
RESULTS = {
    "genesis_pretraining": {"_restored.nii.gz"},
    **{
        name: {"_seg.nii.gz", "_seg.ctbl", "_seg.label.txt", "_seg_probabilities.nii.gz", "_overlay.png"}
        for name in MASKS
    },
}


@pytest.mark.usefixtures("narrow_resnets")
@pytest.mark.parametrize("name", RESULTS)
def test_results_have_both_forms_and_codes_of_their_scan(
    name: str, tmp_path: Path, varied_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(name, tmp_path)
    changes = {}
    if name == "liver_ct_fine_segmentation":
        coarse = copy_bundle("liver_ct_coarse_segmentation", tmp_path)
        leave_model(coarse, varied_data)
        changes["coarse_checkpoint"] = str(coarse / "models" / "model.pt")
    leave_model(bundle, varied_data, **changes)
    scan = nib.load(varied_data / "Scans" / "imagesTr" / "case_0.nii.gz")
    turned = scan.affine @ nib.affines.from_matvec(nib.eulerangles.euler2mat(z=np.deg2rad(10)))
    scan.header.set_qform(turned, 1)
    scan.header.set_sform(scan.affine, 2)
    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(np.asarray(scan.dataobj), None, scan.header), tmp_path / "scans" / "case.nii.gz")

    monkeypatch.chdir(ROOT)
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "scans"),
        **({} if name == "genesis_pretraining" else {"probabilities": True}),
    )
    workflow.initialize()
    workflow.run()
    found = {file.removeprefix("case") for file in names(bundle / "eval" / "inference") if file.startswith("case")}
    assert found == RESULTS[name]
    for ending in found:
        if ending.endswith(".nii.gz"):
            result = nib.load(bundle / "eval" / "inference" / f"case{ending}")
            assert result.shape[:3] == scan.shape
            for one, two in (
                (result.get_sform(True), scan.get_sform(True)),
                (result.get_qform(True), scan.get_qform(True)),
            ):
                assert np.array_equal(one[0], two[0])
                assert one[1] == two[1]
    workflow.finalize()


KINDS = ["forms apart", "both codes 0", "no quaternion", "metres", "microns", "big-endian", "one slice"]


@pytest.mark.parametrize(
    ("kind", "file"), [*((kind, "case.nii.gz") for kind in KINDS), ("plain", "CASE.NII.GZ"), ("plain", "Case.Nii.gz")]
)
def test_voxels_and_affine_of_a_mask_are_exact_for_every_kind_of_header(
    kind: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network answers by intensity alone."""
    header = scan_header(kind)
    truth = (nested_mask() == 0)[:, :, 12:13] if kind == "one slice" else nested_mask() == 0
    volume = np.where(truth, 40, -700) + np.random.default_rng(0).normal(0, 30, truth.shape)
    (tmp_path / "scans").mkdir()
    scan = write_by_bytes(tmp_path / "scans" / file, header, volume.round())
    bundle = copy_bundle("lung_segmentation", tmp_path)
    (bundle / "models").mkdir()
    torch.save({"threshold": torch.zeros(())}, bundle / "models" / "model.pt")
    monkeypatch.chdir(ROOT)
    settings: dict[str, Any] = {
        "network": {},
        "classes": ["background", "body"],
        "roi_size": [32, 32, 32],
        "channel": None,
    }
    settings |= {"bundle": "lung_segmentation", "percentiles": [0.5, 99.5], "intensity_range": None}
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "scans"),
        network_def={"_target_": "tests.bundles.workflow.BrightIsForeground"},
        settings={**settings, "spacing": [1.5, 1.5, 2.5]},
        components=None,
        skip_air=False,
    )
    workflow.initialize()
    workflow.run()
    mask = nib.load(bundle / "eval" / "inference" / f"{file.split('.')[0]}_seg.nii.gz")
    assert np.array_equal(mask.dataobj, truth)
    assert mask.header["xyzt_units"] == header["xyzt_units"]
    assert np.array_equal(mask.affine, nib.Nifti1Image.from_bytes(written(scan)).affine)


def written(scan: Path) -> bytes:
    content = scan.read_bytes()
    return gzip.decompress(content) if scan.suffix.lower() == ".gz" else content
