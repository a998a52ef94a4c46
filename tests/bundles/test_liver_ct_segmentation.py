"""Real runs of the two liver bundles, from pre-training to the mask."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from med3d_components.utils import write_json
from tests.bundles.workflow import configs, copy_bundle, names, read_table
from tests.conftest import ROOT, MakeDomain, RunBundle
from tests.data.channel_files import write_channels


def test_an_encoder_goes_from_pre_training_to_the_coarse_and_the_fine_network(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    pretraining, coarse, fine = (
        copy_bundle(name, tmp_path)
        for name in ("med3d_pretraining", "liver_ct_coarse_segmentation", "liver_ct_fine_segmentation")
    )
    data = make_domain(tmp_path / "Livers", cases=5, classes=3, spacing=(1, 1, 1.5))
    smoke = ("--dataset_dir", data, "--epochs", 1, "--config_file")
    run_bundle("run", "training", *smoke, configs(pretraining, "train", "smoke"), cwd=ROOT)
    encoder = ("--pretrained_weights", pretraining / "checkpoints" / "encoder.pt")
    output = run_bundle("run", "training", *smoke, configs(coarse, "train", "smoke"), *encoder, cwd=coarse)
    assert "Livers may be among the data" in output
    model = torch.load(coarse / "models" / "model.pt", weights_only=True)

    # The fine bundle looks for the coarse model in the folder beside its own.
    settings = json.loads((coarse / "models" / "settings.json").read_text(encoding="utf-8"))
    own = {"coarse": settings, "coarse_checkpoint": str(coarse / "models" / "model.pt")}
    (fine / "configs" / "own.json").write_text(json.dumps(own))
    run_bundle("run", "training", *smoke, configs(fine, "train", "smoke", "own"), *encoder, cwd=tmp_path)
    both = torch.load(fine / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(both[f"coarse.{name}"], value) for name, value in model.items())
    trained = json.loads((fine / "models" / "settings.json").read_text(encoding="utf-8"))
    assert trained["coarse"]["roi_size"] == settings["roi_size"]
    assert trained["spacing"] == [1.0, 1.0, 1.5]

    run_bundle("run", "evaluating", "--dataset_dir", data, "--config_file", configs(fine, "train", "evaluate"))
    scores = json.loads((fine / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert {"monai/dice global/class 1", "monai/hd95 mm/class 1", "monai/missed/class 1"} <= set(scores)
    assert scores["lits/liver_dice_per_case"] == pytest.approx(scores["monai/dice per case/class 1"])
    assert not [name for name in scores if name.startswith("lits/lesion")]  # all classes of the labels are liver
    assert scores["lesion_detection/lesions/class 1"] > 0
    assert 0 <= scores["ece"] <= 1
    tables = {name: read_table(fine / "eval" / "evaluation" / name)[0] for name in ("cases.csv", "cases_lits.csv")}
    assert list(tables["cases.csv"])[:4] == ["case", "set", "convention", "class 1 dice"]
    assert [row["convention"] for row in tables.values()] == ["MONAI", "LiTS"]

    for bundle in (coarse, fine):
        inference = ("run", "inference", "--config_file", bundle / "configs" / "inference.json")
        run_bundle(*inference, "--dataset_dir", data / "imagesTr" / "case_0.nii.gz", cwd=tmp_path)
        found = names(bundle / "eval" / "inference")
        ends = ("_seg.nii.gz", "_seg.ctbl", "_seg.label.txt", "_overlay.png")
        assert found == {"scans.csv", *(f"case_0{end}" for end in ends)}
        mask = nib.load(bundle / "eval" / "inference" / "case_0_seg.nii.gz")
        assert (mask.shape, set(np.unique(mask.get_fdata())) <= {0, 1}) == ((24, 28, 20), True)


def test_without_a_coarse_model_one_line_says_what_is_missing(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    fine = copy_bundle("liver_ct_fine_segmentation", tmp_path)
    data = make_domain(tmp_path / "Livers", cases=4)
    output = run_bundle(
        "run", "training", "--dataset_dir", data, "--config_file", fine / "configs" / "train.json", fails=True
    )
    line = output.rstrip().splitlines()[-1]
    assert line.startswith("error:")
    assert "liver_ct_coarse_segmentation/models/settings.json does not exist" in line
    assert line.endswith("name a trained model by --coarse_checkpoint.")


@pytest.mark.parametrize(("classes", "expected"), [(2, {"lits": False}), (3, {"lits": True}), (4, {})])
def test_the_challenges_scores_are_for_livers_with_or_without_lesions(classes: int, expected: dict[str, bool]) -> None:
    path = ROOT / "bundles" / "liver_ct_fine_segmentation" / "configs" / "evaluate.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    metrics = content["validate#evaluator#additional_metrics"] | {"intensity_window_baseline": None}
    own = {"metrics": metrics, "case_metric": content["case_metric"], "lesion_overlap": content["lesion_overlap"]}
    parser = ConfigParser({"classes": [f"class {value}" for value in range(classes)], **own})
    found = parser.get_parsed_content("metrics")
    assert {name: found[name].lesions for name in found if name == "lits"} == expected
    assert found["lesion_detection"].lesion_overlap == 0.1
    assert parser.get_parsed_content("case_metric") == (["monai", "lits"] if expected else "monai")


@pytest.mark.slow
def test_the_fine_network_takes_the_channels_of_the_coarse_one_and_no_others(
    tmp_path: Path, run_bundle: RunBundle, make_domain: MakeDomain
) -> None:
    coarse, fine = (copy_bundle(f"liver_ct_{stage}_segmentation", tmp_path) for stage in ("coarse", "fine"))
    data = write_channels(tmp_path / "Scans")
    smoke = ("--dataset_dir", data, "--epochs", 1, "--config_file")
    run_bundle("run", "training", *smoke, configs(coarse, "train", "smoke"), "--in_channels", 2)
    settings = json.loads((coarse / "models" / "settings.json").read_text(encoding="utf-8"))
    own = {"coarse": settings, "coarse_checkpoint": str(coarse / "models" / "model.pt")}
    write_json(fine / "configs" / "own.json", own)
    files = configs(fine, "train", "smoke", "own")
    run_bundle("run", "training", *smoke, files)
    run_bundle("run", "evaluating", "--dataset_dir", data, "--config_file", configs(fine, "train", "evaluate"))
    assert (fine / "eval" / "evaluation" / "evaluation.json").is_file()
    one = make_domain(tmp_path / "Livers")
    changes = ("--in_channels", 1, "--dataset_dir", one)
    line = run_bundle("run", "training", *smoke[2:], files, *changes, fails=True).rstrip().splitlines()[-1]
    assert "The coarse network has in_channels 2 and the fine one 1, but both see the same scans" in line
