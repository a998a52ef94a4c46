"""Real runs of the bundle, and where its masks lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from scipy.spatial.transform import Rotation

from med3d_components.networks import DilatedResNet, Med3DSegmentationNet
from med3d_components.utils import write_json
from tests.bundles.workflow import configs, copy_bundle, names, read_table
from tests.conftest import ROOT, MakeDomain, RunBundle
from tests.data.channel_files import write_channels
from tests.data.dicom_files import write_series

SETTINGS: dict[str, Any] = {
    "bundle": "lung_segmentation",
    "network": {},
    "classes": ["background", "lung"],
    "roi_size": [32, 32, 32],
    "channel": None,
    "percentiles": [0.5, 99.5],
    "intensity_range": None,
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy_bundle("lung_segmentation", tmp_path)


def test_train_from_an_encoder_evaluate_and_infer_from_the_root_inside_and_elsewhere(
    bundle: Path, tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    data = make_domain(tmp_path / "Lungs", cases=6, spacing=(1, 1, 1.5), classes=3)
    torch.save(DilatedResNet(10).state_dict(), tmp_path / "resnet_10_23dataset.pth")
    smoke = ("--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    pretrained = ("--pretrained_weights", tmp_path / "resnet_10_23dataset.pth", "--frozen_stages", "['stem','layer1']")
    options = ("--decoder_rate_multiple", 10, "--accumulation_steps", 2)
    output = run_bundle("run", "training", *smoke, *pretrained, *options, cwd=ROOT)
    assert "100.0 % of the values" in output
    assert "are not published: Lungs may be one of them" in output
    weights = torch.load(bundle / "checkpoints" / "last.pt", weights_only=True)
    file = torch.load(tmp_path / "resnet_10_23dataset.pth", weights_only=True)
    trained = weights["network"]
    assert all(
        torch.equal(trained[f"encoder.{k}"], file[k]) for k in file if k.startswith(("conv1.", "bn1.", "layer1."))
    )
    assert not torch.equal(trained["encoder.layer4.0.conv1.weight"], file["layer4.0.conv1.weight"])
    # Three batches an epoch: the optimiser moves after two of them, and at the end.
    assert {int(one["step"]) for one in weights["optimizer"]["state"].values()} == {4}
    encoder, decoder = (group["lr"] for group in weights["optimizer"]["param_groups"])
    assert 0 < encoder < 0.0002
    assert decoder == pytest.approx(10 * encoder)
    results = {"metrics.csv", "cases.csv", "curves.png", "overlays.png", "tensorboard"}
    assert names(bundle / "eval") == results
    assert list(read_table(bundle / "eval" / "metrics.csv")[0])[6:] == ["val_mean_dice", "class 1", "class 2"]

    files = "['configs/train.json','configs/evaluate.json']"
    run_bundle("run", "evaluating", "--config_file", files, "--dataset_dir", data, cwd=bundle)
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert scores["val_mean_dice"] == pytest.approx(weights["best"]["score"], abs=1e-6)
    assert 0 < scores["image_blind_baseline"] < 1
    assert scores["lesion_detection/lesions/class 1"] > 0
    assert 0 <= scores["ece"] <= 1
    assert scores["seconds per scan"] > 0
    row = read_table(bundle / "eval" / "evaluation" / "cases.csv")[0]
    assert {"class 1 lesions", "class 2 false positives", "ece", "seconds", "memory MB"} < row.keys()
    again = ("run", "evaluating", "--config_file", files, "--dataset_dir", data, "--lesion_overlap")
    run_bundle(*again, 1, cwd=bundle)
    strict = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert strict["lesion_detection/detected/class 1"] == 0
    aside = names(bundle / "eval" / "evaluation" / "previous" / "1")
    assert aside == {"evaluation.json", "cases.csv", "calibration.csv", "overlays.png"}
    line = run_bundle(*again, 0, cwd=bundle, fails=True).rstrip().splitlines()[-1]
    assert line == "error: lesion_overlap is 0, but must be a number above 0 and at most 1."

    inference = ("run", "inference", "--config_file", bundle / "configs" / "inference.json")
    run_bundle(*inference, "--dataset_dir", data / "imagesTr", "--components", "None", cwd=tmp_path)
    endings = ("_seg.nii.gz", "_seg.ctbl", "_seg.label.txt", "_overlay.png")
    scans = {f"case_{case}{ending}" for case in range(6) for ending in endings}
    assert names(bundle / "eval" / "inference") == {"scans.csv", *scans}
    mask = nib.load(bundle / "eval" / "inference" / "case_0_seg.nii.gz")
    assert (mask.shape, set(np.unique(mask.get_fdata())) <= {0, 1, 2}) == ((24, 28, 20), True)


def test_two_channels_start_from_weights_of_one_and_the_evaluation_agrees(
    bundle: Path, tmp_path: Path, run_bundle: RunBundle
) -> None:
    data = write_channels(tmp_path / "Scans")
    torch.save(DilatedResNet(10).state_dict(), tmp_path / "resnet_10_23dataset.pth")
    smoke = ("--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    weights = ("--pretrained_weights", tmp_path / "resnet_10_23dataset.pth", "--frozen_stages", "['stem']")
    output = run_bundle("run", "training", *smoke, *weights, "--in_channels", 2)
    assert "adapted     conv1.weight: 1 channel repeated over 2, divided by 2" in output
    assert "channels     T1, T2" in output
    published = torch.load(tmp_path / "resnet_10_23dataset.pth", weights_only=True)["conv1.weight"]
    model = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert torch.equal(model["encoder.conv1.weight"], published.expand(-1, 2, -1, -1, -1) / 2)  # which was frozen

    best = torch.load(bundle / "checkpoints" / "last.pt", weights_only=True)["best"]["score"]
    evaluation = ("--config_file", configs(bundle, "train", "evaluate"), "--dataset_dir", data)
    run_bundle("run", "evaluating", *evaluation)
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert scores["val_mean_dice"] == pytest.approx(best, abs=1e-6)


@pytest.mark.slow
def test_foreseeable_mistakes_end_in_one_line(
    bundle: Path, tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    data = make_domain(tmp_path / "data", cases=4)
    smoke = ("run", "training", "--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)

    def last_line(*arguments: object) -> str:
        return run_bundle(*arguments, fails=True).rstrip().splitlines()[-1]

    torch.save(DilatedResNet(18).state_dict(), tmp_path / "encoder.pt")
    assert "the file holds a ResNet-18" in last_line(*smoke, "--pretrained_weights", tmp_path / "encoder.pt")
    line = last_line(*smoke, "--frozen_stages", "['layer5']")
    assert (
        line == "error: frozen_stages is ['layer5'], but must be names among stem, layer1, layer2, layer3 and layer4."
    )
    # Weights of another number of classes than their settings say.
    torch.save(Med3DSegmentationNet(3, 10).state_dict(), bundle / "small.pt")
    (bundle / "models").mkdir()
    (bundle / "small.pt").rename(bundle / "models" / "model.pt")
    network = {"task": "segmentation", "num_classes": 2, "depth": 10}
    write_json(bundle / "models" / "settings.json", {**SETTINGS, "network": network, "spacing": [1, 1, 1]})
    inference = ("run", "inference", "--config_file", bundle / "configs" / "inference.json", "--dataset_dir")
    assert "classifier.weight (3, 32, 1, 1, 1) instead of (2, 32, 1, 1, 1)" in last_line(*inference, data / "imagesTr")
    write_series(tmp_path / "scans" / "gap", np.zeros((8, 8, 6)), np.eye(4), leave_out=[3])
    assert "gap" in last_line(*inference, tmp_path / "scans")


def ellipsoid(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return where the voxel centres lie in an ellipsoid around the middle of the volume, of its own axes in RAS."""
    world = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape).astype(float))
    world -= (affine[:3, :3] @ ((np.array(shape) - 1) / 2))[:, None, None, None]
    return (np.square(world / np.array([24.0, 15.0, 19.0])[:, None, None, None])).sum(0) <= 1


def oblique_affine(order: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    """Return an affine of turned axes in another order, two of them flipped, and of unequal spacing."""
    turned = Rotation.from_euler("xyz", (14, -9, 11), degrees=True).as_matrix()[:, order] * [-1, 1, -1]
    affine = np.eye(4)
    affine[:3, :3] = turned * spacing
    affine[:3, 3] = (-20, 35, 110)
    return affine


SCANS = {
    "oblique": (oblique_affine((2, 0, 1), (2.5, 0.9, 1.2)), (28, 72, 50)),
    "sagittal": (np.array([[0, 0, -1.0, 9], [0.8, 0, 0, 5], [0, -3.0, 0, 4], [0, 0, 0, 1]]), (60, 22, 70)),
}


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("kind", ["nifti", "dicom", "nrrd"])
def test_a_mask_lies_on_its_scan_in_any_geometry(
    bundle: Path, tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is replaced by a threshold, so that only preprocessing and its inversion are tested."""
    affine, shape = SCANS[name]
    if np.linalg.det(affine[:3, :3]) < 0:  # DICOM's slices follow their rows and columns by the right hand
        affine = affine @ np.diag([1, 1, -1, 1])
    truth = ellipsoid(affine, shape)
    volume = (truth * 400 - 200 + np.random.default_rng(0).normal(0, 20, shape)).round()
    scans = tmp_path / "scans"
    scans.mkdir()
    write_scan(scans, kind, volume, affine)

    (bundle / "models").mkdir()
    oracle = {"_target_": "tests.bundles.workflow.BrightIsForeground"}
    share = torch.tensor(truth.mean())
    # Halfway between the two intensities, as the z-score maps it.
    torch.save({"threshold": (0.5 - share) / (share * (1 - share)).sqrt()}, bundle / "models" / "model.pt")
    monkeypatch.chdir(ROOT)
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(scans),
        network_def=oracle,
        settings={**SETTINGS, "spacing": [1.3, 1.3, 1.3]},
    )
    workflow.initialize()
    workflow.run()
    (path,) = (bundle / "eval" / "inference").glob("*_seg.nii.gz")  # a DICOM series has its UID for a name
    mask = nib.load(path)
    if kind == "nifti":
        assert np.array_equal(mask.affine, nib.load(scans / "scan.nii.gz").affine)
    # The file may list its axes in another order than the array that was written: compare in the world.
    original = nib.Nifti1Image(truth.astype(np.uint8), affine)
    found, wanted = (nib.as_closest_canonical(image) for image in (mask, original))
    assert np.allclose(found.affine, wanted.affine, atol=1e-3)
    a, b = found.get_fdata() > 0, wanted.get_fdata() > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.98


def test_a_dicom_scan_gets_its_mask_in_every_format_and_its_probabilities(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    highdicom, slicerio = (pytest.importorskip(name) for name in ("highdicom", "slicerio"))
    affine = np.diag([-1.5, -1.5, 2.5, 1])
    volume = np.full((20, 18, 12), -200)
    volume[4:12, 5:15, 3:9] = 200
    write_series(tmp_path / "scans" / "series", volume, affine)
    (bundle / "models").mkdir()
    torch.save({"threshold": torch.zeros(())}, bundle / "models" / "model.pt")
    monkeypatch.chdir(ROOT)
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "scans"),
        network_def={"_target_": "tests.bundles.workflow.BrightIsForeground"},
        settings={**SETTINGS, "classes": ["background", "left lung"], "spacing": [1.5, 1.5, 2.5]},
        components=None,
        format="nii.gz,seg.nrrd,dicom-seg,rtstruct",
        separate_classes=True,
        probabilities=True,
    )
    workflow.initialize()
    workflow.run()
    (path,) = (bundle / "eval" / "inference").glob("*_seg.nii.gz")
    stem = path.name.removesuffix(".nii.gz")
    assert {name.removeprefix(stem) for name in names(path.parent) if name.startswith(stem)} == {
        *(".nii.gz", ".seg.nrrd", ".seg.dcm", ".rtstruct.dcm", ".ctbl", ".label.txt", "_left_lung.nii.gz"),
        *("_probabilities_background.nii.gz", "_probabilities_left_lung.nii.gz"),
    }
    mask = np.asarray(nib.load(path).dataobj)
    assert np.array_equal(slicerio.read_segmentation(path.with_name(f"{stem}.seg.nrrd"))["voxels"], mask)
    seg = highdicom.seg.segread(path.with_name(f"{stem}.seg.dcm")).get_volume(combine_segments=True)
    assert (seg.array > 0).sum() == mask.sum() == (volume > 0).sum()
    likely = [nib.load(path.with_name(f"{stem}_probabilities_{x}.nii.gz")) for x in ("background", "left_lung")]
    assert np.array_equal(likely[1].get_fdata() > likely[0].get_fdata(), mask)
    assert np.array_equal(likely[1].affine, nib.load(path).affine)


def write_scan(folder: Path, kind: str, volume: np.ndarray, affine: np.ndarray) -> None:
    if kind == "nifti":
        nib.save(nib.Nifti1Image(volume.astype(np.int16), affine), folder / "scan.nii.gz")
    elif kind == "dicom":
        write_series(folder / "scan", volume, affine, shuffle=True)
    else:
        write_series(folder / "series", volume, affine)
        itk.imwrite(itk.imread(str(folder / "series")), str(folder / "scan.nrrd"))
        for path in (folder / "series").iterdir():
            path.unlink()


def test_the_largest_parts_of_each_class_are_kept(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = np.full((40, 30, 20), -200, np.int16)
    for start, length in ((2, 10), (16, 8), (30, 3)):  # two lungs and a stray part
        volume[start : start + length, 5:20, 5:15] = 200
    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "scans" / "scan.nii.gz")
    (bundle / "models").mkdir()
    torch.save({"threshold": torch.zeros(())}, bundle / "models" / "model.pt")
    monkeypatch.chdir(ROOT)
    for components, parts in ((2, [True, True, False]), (1, [True, False, False]), (None, [True, True, True])):
        workflow = ConfigWorkflow(
            str(bundle / "configs" / "inference.json"),
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=str(tmp_path / "scans"),
            network_def={"_target_": "tests.bundles.workflow.BrightIsForeground"},
            settings={**SETTINGS, "spacing": [1, 1, 1]},
            **({} if components == 2 else {"components": components}),  # two are the default of a single class
        )
        workflow.initialize()
        workflow.run()
        mask = nib.load(bundle / "eval" / "inference" / "scan_seg.nii.gz").get_fdata()
        assert [bool(mask[x, 10, 10]) for x in (6, 20, 31)] == parts
