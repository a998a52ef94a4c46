from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import med3d_components.planning.plan as planner
from med3d_components.commands import plan, train
from med3d_components.planning.memory import MARGIN, Peak
from med3d_components.planning.overlay import read_plan
from med3d_components.planning.plan import make_plan
from med3d_components.utils.option_help import describe_options, option_names
from tests.bundles.workflow import read_config, read_table
from tests.conftest import ROOT, MakeDomain, RunBundle

LUNG = ROOT / "bundles" / "lung_segmentation"


@pytest.fixture
def kilobytes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let a training need 1000 bytes per voxel, and note what was asked for."""
    asked: list[dict[str, Any]] = []

    def predict(make: partial[Any]) -> Peak:
        _, patch, batch_size, num_classes = make.args
        asked.append({"num_classes": num_classes, **make.keywords})
        return Peak(activations=1000 * batch_size * int(np.prod(patch)))

    monkeypatch.setattr(planner, "predict_peak", predict)
    return asked


def gb(voxels: int) -> float:
    """Return the memory that so many voxels need, and hardly a byte more."""
    return (MARGIN * 1000 * voxels + 1) / 1e9


def decided(overlay: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in overlay.items() if not name.startswith("_")}


def test_thick_slices_get_a_plan_with_a_reason_for_each_entry(
    tmp_path: Path, make_domain: MakeDomain, kilobytes: list[dict[str, Any]]
) -> None:
    folder = make_domain(tmp_path / "Stacks", cases=4, size=(35, 50, 15), spacing=(1, 1, 4), classes=3)
    overlay = make_plan(folder, LUNG, memory_gb=1)
    assert decided(overlay) == {
        "in_channels": 1,
        "spacing": [1.0, 1.0, 4.0],
        "strides": [[2, 2, 1], [2, 2, 1], [2, 2, 2]],
        "patch_size": [40, 56, 16],
        "batch_size": 2,
    }
    assert all(overlay[f"_desc_{name}"] for name in decided(overlay))
    assert "4 cases of 35 x 50 x 15 voxels of 1 x 1 x 4 mm" in overlay["_desc_plan"]
    assert "3 classes (background, class 1, class 2)" in overlay["_desc_plan"]
    assert option_names(overlay) == list(decided(overlay))
    assert kilobytes[0]["num_classes"] == 3


def test_less_memory_takes_smaller_patches_before_it_takes_single_ones(
    tmp_path: Path, make_domain: MakeDomain, kilobytes: list[dict[str, Any]]
) -> None:
    folder = make_domain(tmp_path / "Organ", size=(64, 64, 64))
    for memory, size, batch_size in (
        (gb(2 * 64**3), 64, 2),
        (gb(2 * 64**3) * 0.99, 48, 2),
        (gb(2 * 32**3), 32, 2),
        (gb(32**3), 32, 1),
    ):
        overlay = make_plan(folder, LUNG, memory)
        assert (overlay["patch_size"], overlay["batch_size"]) == ([size] * 3, batch_size)
    with pytest.raises(ValueError, match=r"^0\.04 GB hold no training: a batch of 1 of 32 x 32 x 32 voxels takes") as e:
        make_plan(folder, LUNG, 0.04)
    assert "\n" not in str(e.value)


def test_a_batch_of_whole_volumes_grows_with_cases_and_memory(
    tmp_path: Path, make_domain: MakeDomain, kilobytes: list[dict[str, Any]]
) -> None:
    many = make_domain(tmp_path / "Many", cases=32, size=(16, 16, 16))
    few = make_domain(tmp_path / "Few", cases=15, size=(16, 16, 16))
    assert [make_plan(folder, LUNG, 1)["batch_size"] for folder in (many, few)] == [8, 2]
    assert make_plan(many, LUNG, gb(7 * 16**3))["batch_size"] == 4


def test_what_is_asked_for_is_taken_and_the_rest_follows(
    tmp_path: Path, make_domain: MakeDomain, kilobytes: list[dict[str, Any]]
) -> None:
    folder = make_domain(tmp_path / "Organ", size=(64, 64, 64))
    overlay = make_plan(folder, LUNG, 1, {"spacing": [1, 1, 4], "depth": 10, "batch_size": 1})
    assert decided(overlay) == {
        "in_channels": 1,
        "strides": [[2, 2, 1], [2, 2, 1], [2, 2, 2]],
        "patch_size": [64, 64, 16],
        "spacing": [1, 1, 4],
        "depth": 10,
        "batch_size": 1,
    }
    assert kilobytes[-1]["depth"] == 10
    overlay = make_plan(folder, LUNG, 1, {"patch_size": 16})
    assert overlay["patch_size"] == [16, 16, 16]
    assert overlay["strides"] == [[2, 2, 2], [2, 2, 2], [1, 1, 1]]
    genesis = make_plan(folder, LUNG, 1, {"architecture": "genesis", "spacing": [1, 1, 4]})
    assert "strides" not in genesis
    assert genesis["patch_size"] == [64, 64, 16]


def test_channels_are_those_of_the_scans_unless_their_dataset_names_one(
    tmp_path: Path, make_domain: MakeDomain, kilobytes: list[dict[str, Any]]
) -> None:
    folder = make_domain(tmp_path / "Organ")
    for path in (folder / "imagesTr").iterdir():
        nib.save(nib.Nifti1Image(np.ones((24, 28, 20, 3), np.float32), np.eye(4)), path)
    assert make_plan(folder, LUNG, 1)["in_channels"] == 3
    assert kilobytes[-1]["in_channels"] == 3
    listed = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**listed, "channel": 2}), encoding="utf-8")
    assert make_plan(folder, LUNG, 1)["in_channels"] == 1


def test_the_second_of_two_networks_sees_the_channels_of_the_first(
    tmp_path: Path, make_domain: MakeDomain, kilobytes: list[dict[str, Any]]
) -> None:
    overlay = make_plan(make_domain(tmp_path / "Liver"), LUNG.with_name("liver_ct_fine_segmentation"), 1)
    assert list(decided(overlay)) == ["spacing", "strides", "patch_size", "batch_size"]


def test_the_training_of_two_networks_is_predicted_as_it_is(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "Liver", size=(40, 40, 16), spacing=(1, 1, 4))
    overlay = make_plan(
        folder, LUNG.with_name("liver_ct_fine_segmentation"), 2, {"depth": 10, "patch_size": [40, 40, 16]}
    )
    assert overlay["strides"] == [[2, 2, 1], [2, 2, 1], [2, 2, 2]]


def test_memory_is_half_of_what_is_free_if_nothing_is_said(
    tmp_path: Path, make_domain: MakeDomain, kilobytes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_domain(tmp_path / "Organ", size=(64, 64, 64))
    monkeypatch.setattr(planner, "free_memory", lambda device: 2e9 * gb(2 * 48**3))
    assert make_plan(folder, LUNG)["patch_size"] == [48, 48, 48]


@pytest.mark.parametrize(
    ("bundle", "memory", "options", "message"),
    [
        (
            "med3d_pretraining",
            1,
            {},
            "^med3d_pretraining has no option spacing, so there is nothing to plan; plan lung",
        ),
        ("lung_segmentation", 1, {"dept": 10}, "^--dept is no id of the training of lung_segmentation; did you mean"),
        ("lung_segmentation", 1, {"depth": 11}, "^depth is 11, but must be"),
        ("lung_segmentation", 1, {"depth": "$11"}, r"^depth is '\$11', which MONAI would evaluate; name a value\."),
        ("lung_segmentation", 0, {}, "^memory_gb is 0, but must be a number above 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_line(
    bundle: str,
    memory: float,
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    make_domain: MakeDomain,
    kilobytes: list[dict[str, Any]],
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_plan(make_domain(tmp_path / "Organ"), LUNG.with_name(bundle), memory, options)
    assert "\n" not in str(caught.value)
    assert not kilobytes


def test_a_plan_that_is_there_and_a_folder_that_is_no_set_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    with pytest.raises(FileNotFoundError, match=r"none/dataset\.json does not exist; a domain is a folder in Medical"):
        plan(str(tmp_path / "none"), str(out))
    assert not out.exists()
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"plan\.json is there already and stays as it is; remove it, or name"):
        plan(str(tmp_path), str(out))
    assert out.read_text(encoding="utf-8") == "mine"
    with pytest.raises(ValueError, match=r"plan\.txt, but must end in \.json"):
        plan(str(tmp_path), str(tmp_path / "plan.txt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is no plan, which is a JSON object"),
        ('{"depth": "$open(1)"}', "depth is '\\$open\\(1\\)', which MONAI would evaluate"),
        ('{"patch_size": [1, ["@x"]]}', "which MONAI would evaluate"),
        ('{"spacing": {"_target_": "os.system"}}', "which MONAI would evaluate"),
    ],
)
def test_nothing_in_a_plan_is_evaluated(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_plan(tmp_path / "plan.json")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return thick slices, and the real plan of a small network for them."""
    from tests.conftest import write_domain

    folder = tmp_path_factory.mktemp("planned")
    stacks = write_domain(folder / "Stacks", size=(30, 28, 15), spacing=(1, 1, 4))
    out = plan(str(stacks), str(folder / "plan.json"), memory_gb=2, depth=10)
    return stacks, out


def options_of(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "models" / "run.json").read_text(encoding="utf-8"))
    return record["options"]


def test_a_training_takes_a_plan_and_what_is_typed_comes_before_it(planned: tuple[Path, Path], tmp_path: Path) -> None:
    stacks, out = planned
    train("lung_segmentation", str(stacks), str(tmp_path), plan=str(out), epochs=1, num_workers=0, batch_size=1)
    options, overlay = options_of(tmp_path), json.loads(out.read_text(encoding="utf-8"))
    assert options["batch_size"] == 1
    for name in ("spacing", "strides", "patch_size", "in_channels", "depth"):
        assert options[name] == overlay[name]
    settings = json.loads((tmp_path / "models" / "settings.json").read_text(encoding="utf-8"))
    assert settings["network"]["strides"] == [[2, 2, 1], [2, 2, 1], [2, 1, 2]]
    assert settings["roi_size"] == overlay["patch_size"] == [32, 28, 16]
    assert len(read_table(tmp_path / "eval" / "metrics.csv")) == 1


def test_a_plan_has_a_line_for_each_entry(planned: tuple[Path, Path]) -> None:
    lines = planned[1].read_text(encoding="utf-8").splitlines()
    assert '    "strides": [[2, 2, 1], [2, 2, 1], [2, 1, 2]],' in lines
    assert len(lines) == 2 + len(json.loads("\n".join(lines)))


def test_monai_takes_a_plan_as_one_more_config_and_its_help_tells_the_reasons(
    planned: tuple[Path, Path], tmp_path: Path, run_bundle: RunBundle
) -> None:
    stacks, out = planned
    files = str([str(LUNG / "configs" / "train.json"), str(out)])
    places = ("--dataset_dir", stacks, "--run_dir", tmp_path, "--num_workers", 0, "--epochs", 1)
    run_bundle("run", "training", "--config_file", files, *places)
    assert options_of(tmp_path)["strides"] == [[2, 2, 1], [2, 2, 1], [2, 1, 2]]
    text = describe_options({**read_config(LUNG, "train"), **json.loads(out.read_text(encoding="utf-8"))})
    assert "--epochs" in text
    assert "Thick slices are not halved" in text
    assert read_config(LUNG, "train")["strides"] == [[2, 2, 2]] * 3
