"""Which cases a model's run takes from a folder: copies, grown and changed folders, ancestors."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from med3d_components.data import ImageDatalist, ModelSplit, MultiDomainDatalist, NoduleDatalist, SegmentationDatalist
from med3d_components.data.case_sets import case_sets
from med3d_components.data.digests import KEPT, place_digests
from med3d_components.data.split_file import inherit, read_split, without_names
from med3d_components.utils import write_json
from tests.conftest import MakeDomain
from tests.data.dicom_files import write_series
from tests.data.test_datalists import edit

Names = list[str]


def cases(items: list[dict[str, Any]]) -> Names:
    return [item["case"] for item in items]


def train(folder: Path, models: Path, **arguments: Any) -> SegmentationDatalist:
    """Return the lists of a training, whose split lies beside its model then."""
    datalist = SegmentationDatalist(folder, 0.25, **arguments)
    write_json(models / "split.json", datalist.split)
    return datalist


def resume(folder: Path, models: Path) -> SegmentationDatalist:
    return SegmentationDatalist(folder, 0.25, model_split=ModelSplit(models, resume=True))


def evaluate(folder: Path, models: Path, which: str = "validation") -> dict[str, str]:
    """Return the cases that are scored, with their sets."""
    datalist = SegmentationDatalist(folder, 0.25, model_split=ModelSplit(models, cases=which))
    return {item["case"]: item["set"] for item in datalist.validation}


def copy(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(folder, folder.with_name(name), ignore=shutil.ignore_patterns(".*")))


def grow(folder: Path, *names: str) -> Path:
    """Add cases to a folder, each of its own."""
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for name in names:
        for kind in ("images", "labels"):
            change(folder / f"{kind}Tr" / "case_0.nii.gz", folder / f"{kind}Tr" / f"{name}.nii.gz")
        content["training"].append({kind: f"./{kind}sTr/{name}.nii.gz" for kind in ("image", "label")})
    edit(folder, training=content["training"])
    return folder


def change(path: Path, target: Path | None = None) -> None:
    """Write a volume turned around, with a voxel that tells it from all others."""
    volume = np.asarray(nib.load(path).dataobj)[::-1].copy()
    if volume.dtype != np.uint8:
        volume[0, 0, 0] = sum(map(ord, str(target or path)))
    nib.save(nib.Nifti1Image(volume, np.eye(4)), target or path)


def rename(folder: Path, old: str, new: str) -> None:
    text = (folder / "dataset.json").read_text(encoding="utf-8")
    (folder / "dataset.json").write_text(text.replace(f"/{old}.", f"/{new}."))
    for kind in ("images", "labels"):
        (folder / f"{kind}Tr" / f"{old}.nii.gz").rename(folder / f"{kind}Tr" / f"{new}.nii.gz")


@pytest.fixture
def kidney(tmp_path: Path, make_domain: MakeDomain) -> Path:
    return make_domain(tmp_path / "kidney", cases=8)


def test_a_copy_under_another_name_scores_the_validation_cases_of_the_model(kidney: Path, tmp_path: Path) -> None:
    trained = train(kidney, tmp_path)
    assert len(trained.validation) == 2
    for folder in (kidney, copy(kidney, "kidney_v2")):
        assert evaluate(folder, tmp_path) == dict.fromkeys(cases(trained.validation), "validation")
        assert evaluate(folder, tmp_path, "unseen") == evaluate(folder, tmp_path)
        datalist = SegmentationDatalist(folder, model_split=ModelSplit(tmp_path, cases="all"))
        sets = {item["case"]: item["set"] for item in datalist.validation}
        assert [case for case in sorted(sets) if sets[case] == "training"] == cases(trained.training)
        assert cases(datalist.training) == cases(trained.training)  # which a baseline is fitted to


def test_a_grown_folder_neither_scores_a_case_that_trained_nor_moves_one_into_validation(
    kidney: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = train(kidney, tmp_path)
    new = [f"more_{number}" for number in range(10)]
    folder = grow(copy(kidney, "kidney_v2"), *new)
    assert list(evaluate(folder, tmp_path)) == cases(trained.validation)
    assert "New, not scored: 10 cases (more_0, more_1, more_2, more_3, more_4, ...)." in caplog.text
    unseen = evaluate(folder, tmp_path, "unseen")
    assert unseen == dict.fromkeys(cases(trained.validation), "validation") | dict.fromkeys(new, "new")
    caplog.clear()
    resumed = resume(folder, tmp_path)
    assert (cases(resumed.training), cases(resumed.validation)) == (cases(trained.training), cases(trained.validation))
    assert resumed.split == trained.split | {"trained_on": ["kidney_v2"]}
    assert "10 cases (more_0," in caplog.text
    assert "start a new training to use them" in caplog.text


def test_a_renamed_case_is_known_by_its_content(kidney: Path, tmp_path: Path) -> None:
    trained = train(kidney, tmp_path)
    old = cases(trained.training)[2]
    rename(kidney, old, "other")
    assert list(evaluate(kidney, tmp_path, "unseen")) == cases(trained.validation)
    assert evaluate(kidney, tmp_path, "all")["other"] == "training"
    expected = ["other" if case == old else case for case in cases(trained.training)]
    resumed = resume(kidney, tmp_path)
    assert cases(resumed.training) == expected  # in the old order, so that the same are drawn
    assert list(resumed.split["training"].values()) == list(trained.split["training"].values())


def test_names_that_were_swapped_say_nothing(kidney: Path, tmp_path: Path) -> None:
    trained = train(kidney, tmp_path)
    one, other = cases(trained.training)[0], cases(trained.validation)[0]
    for old, new in ((one, "x"), (other, one), ("x", other)):
        rename(kidney, old, new)
    assert set(evaluate(kidney, tmp_path)) == {one, *cases(trained.validation)[1:]}
    assert cases(resume(kidney, tmp_path).validation)[0] == one


def test_a_scan_whose_label_was_corrected_is_changed_and_trained(
    kidney: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = train(kidney, tmp_path)
    one, other = cases(trained.training)[0], cases(trained.validation)[0]
    for case in (one, other):
        change(kidney / "labelsTr" / f"{case}.nii.gz")
    for which in ("validation", "unseen"):
        scored = evaluate(kidney, tmp_path, which)
        assert one not in scored
        assert scored[other] == "validation (changed)"
    assert f"Trained on, but changed since, not scored: 1 case ({one})." in caplog.text
    assert evaluate(kidney, tmp_path, "all")[one] == "training (changed)"
    resumed = resume(kidney, tmp_path)
    assert (cases(resumed.training), cases(resumed.validation)) == (cases(trained.training), cases(trained.validation))
    assert "Changed since the run began: 2 cases (" in caplog.text
    assert resumed.split["ancestors"] == {}


def test_another_scan_under_a_name_that_trained_is_changed_and_not_scored(kidney: Path, tmp_path: Path) -> None:
    trained = train(kidney, tmp_path)
    one, other = cases(trained.training)[0], cases(trained.validation)[0]
    for case in (one, other):
        change(kidney / "imagesTr" / f"{case}.nii.gz")
    folder = copy(kidney, "kidney_v2")
    assert list(evaluate(folder, tmp_path)) == cases(trained.validation)[1:]
    assert set(evaluate(folder, tmp_path, "unseen")) == set(cases(trained.validation))
    sets = evaluate(folder, tmp_path, "all")
    assert (sets[one], sets[other]) == ("training (changed)", "validation (changed)")
    # The run that goes on has trained on both: the scan of before counts on.
    resumed = resume(folder, tmp_path)
    assert resumed.split["ancestors"] == {"kidney_v2": {one: trained.split["training"][one]}}


def test_equal_names_mean_nothing_where_no_case_and_no_data_set_is_the_same_but_are_told(
    kidney: Path, tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    train(kidney, tmp_path)
    other = make_domain(tmp_path / "other", cases=8, seed=1)
    with pytest.raises(ValueError, match=r"0 trained, and 8 are new; some have the names .* saved anew; score all by"):
        evaluate(other, tmp_path)
    assert "the same scans, saved anew, they trained or chose the model" in caplog.text
    assert set(evaluate(other, tmp_path, "unseen").values()) == {"new"}
    datalist = SegmentationDatalist(other, model_split=ModelSplit(tmp_path, cases="unseen"))
    assert datalist.training == []
    shutil.rmtree(kidney)
    with pytest.raises(ValueError, match=r"of its 8 cases 6 trained, and 0 are new; score all by --cases all"):
        evaluate(Path(other.rename(kidney)), tmp_path, "validation")
    assert set(evaluate(kidney, tmp_path, "unseen").values()) == {"validation (changed)"}


def test_a_resumed_run_that_lacks_a_case_is_refused_and_an_evaluation_scores_what_is_there(
    kidney: Path, tmp_path: Path
) -> None:
    trained = train(kidney, tmp_path)
    gone = cases(trained.validation)[0]
    content = json.loads((kidney / "dataset.json").read_text(encoding="utf-8"))["training"]
    edit(kidney, training=[entry for entry in content if f"/{gone}." not in entry["image"]])
    with pytest.raises(
        ValueError, match=rf"lacks 1 case \({gone}\), which the run that is resumed .* without --resume"
    ):
        resume(kidney, tmp_path)
    assert list(evaluate(kidney, tmp_path)) == cases(trained.validation)[1:]


def test_one_new_case_is_enough_to_evaluate(kidney: Path, tmp_path: Path, make_domain: MakeDomain) -> None:
    train(kidney, tmp_path)
    assert evaluate(make_domain(tmp_path / "one", cases=1, seed=3), tmp_path, "unseen") == {"case_0": "new"}


def test_a_model_without_a_split_is_scored_on_all_or_not_at_all(kidney: Path, tmp_path: Path) -> None:
    for which in ("validation", "unseen"):
        with pytest.raises(
            FileNotFoundError, match=r"split\.json does not exist, so it is not known which .* --cases all"
        ):
            evaluate(kidney, tmp_path, which)
    assert set(evaluate(kidney, tmp_path, "all").values()) == {"unknown"}
    assert cases(resume(kidney, tmp_path).validation) == cases(SegmentationDatalist(kidney, 0.25).validation)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"training": [], "validation": {}}', '{"training": {"a": 1}}'])
def test_a_damaged_split_is_named(kidney: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=r"split\.json is damaged; restore it"):
        evaluate(kidney, tmp_path)


def test_options_that_draw_cases_are_refused_where_none_are_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--val_fraction: an evaluation draws no cases; choose by --cases"):
        ModelSplit(tmp_path, cases="all", unused={"val_fraction": 1, "split_seed": None})
    with pytest.raises(ValueError, match="cases is 'some', but must be"):
        ModelSplit(tmp_path, cases="some")


def test_over_fitted_cases_have_trained(kidney: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "split.json", SegmentationDatalist(kidney, 1).split)
    with pytest.raises(ValueError, match="of its 8 cases 8 trained, and 0 are new; score all by --cases all"):
        evaluate(kidney, tmp_path)
    resumed = resume(kidney, tmp_path)
    assert (len(resumed.training), len(resumed.validation)) == (8, 8)


def pack_anew(folder: Path, how: str) -> None:
    """Write the volumes of a folder with the same bytes, but packed in another way, or not."""
    for path in folder.glob("*Tr/*.nii.gz"):
        content = gzip.decompress(path.read_bytes())
        if how == "unpacked":
            path.unlink()
            path.with_suffix("").write_bytes(content)
        else:
            path.write_bytes(gzip.compress(content, 1) if how == "faster" else gzip.compress(content))
    if how == "unpacked":
        text = (folder / "dataset.json").read_text(encoding="utf-8")
        (folder / "dataset.json").write_text(text.replace(".nii.gz", ".nii"), encoding="utf-8")


@pytest.mark.parametrize("how", ["again", "faster", "unpacked"])
def test_cases_that_were_packed_anew_are_the_same(kidney: Path, tmp_path: Path, how: str) -> None:
    trained = train(kidney, tmp_path)
    folder = copy(kidney, "kidney_v2")
    pack_anew(folder, how)
    assert evaluate(folder, tmp_path, "unseen") == dict.fromkeys(cases(trained.validation), "validation")


def test_a_gzip_file_that_cannot_be_unpacked_has_a_digest_of_its_own(tmp_path: Path) -> None:
    for name, content in (("whole", gzip.compress(b"1" * 1000)), ("cut", gzip.compress(b"1" * 1000)[:-4])):
        (tmp_path / f"{name}.nii.gz").write_bytes(content)
    (tmp_path / "other.nii.gz").write_bytes(b"\x1f\x8b no gzip")
    assert len(set(place_digests(tmp_path, tmp_path.glob("*.gz")).values())) == 3


def test_an_image_that_cases_share_tells_nothing_of_them(tmp_path: Path) -> None:
    """An empty channel, equal to the bit in all cases."""
    training = {"1": "0a+00.ff", "2": "0b+00.ff"}
    split = {"trained_on": ["a"], "training": training, "validation": {"3": "0c+00.ff"}, "ancestors": {}}
    folder = {"1": "0a+00.ff", "3": "0c+00.ff", "x": "0d+00.ff", "y": "0b+00.ee"}
    expected = {"1": "training", "3": "validation", "x": "new", "y": "training"}
    assert case_sets(split, folder, ["b"]) == expected
    inherited = {**split, "training": {}, "validation": {}, "ancestors": {"a": training}}
    assert case_sets(inherited, folder, ["b"]) == expected | dict.fromkeys(("1", "y"), "ancestor") | {"3": "new"}
    # Of cases that share all images none is lost.
    twins = {**split, "training": {"1": "0a+0b"}, "validation": {"2": "0a+0b"}}
    assert case_sets(twins, {"x": "0a+0b", "y": "0a+0c"}, ["b"]) == {"x": "training", "y": "new"}
    # A scan in place of another is one, though both have the empty channel.
    write_json(tmp_path / "split.json", split)
    now = {"1": "0e+00.ff", "2": "0b+00.ff", "3": "0c+00.ff"}
    assert ModelSplit(tmp_path, resume=True).divide(now, ["a"]).replaced == {"1": "0a+00.ff"}


def test_validation_cases_that_trained_an_ancestor_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cases = {f"{number}": f"{number}a.ff" for number in range(4)}
    split = {"trained_on": ["a"], "training": {"0": "0a.ff"}, "validation": dict([*cases.items()][1:])}
    write_json(tmp_path / "split.json", {**split, "ancestors": {"b": split["validation"]}})
    why = "of its 4 cases 1 trained, 3 trained a model that this one started from, and 0 are new"
    with pytest.raises(ValueError, match=f"holds no validation case of .* to score: {why}; score all by --cases all"):
        ModelSplit(tmp_path, cases="validation").divide(cases, ["a"])
    assert "has 3 of the model's 3 validation cases (3 trained a model that this one started from)" in caplog.text


def test_names_of_cases_stay_at_home_but_data_sets_are_known(tmp_path: Path) -> None:
    split = {"trained_on": ["a", "b"], "training": {"a/Smith": "0a.ff", "b/Jones": "0b.ff"}, "validation": {}}
    given = without_names({**split, "ancestors": {"c": {"Miller": "0c"}}})
    assert not [name for name in ("Smith", "Jones", "Miller") if name in str(given)]
    assert inherit([given]) == {"c": {"0c": "0c"}, "a": {"0a.ff": "0a.ff"}, "b": {"0b.ff": "0b.ff"}}
    write_json(tmp_path / "split.json", given)
    assert read_split(tmp_path / "split.json") == given


# Models before the model.


def test_ancestors_count_through_two_generations(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_domain(tmp_path / "first", cases=4)
    one = train(first, tmp_path / "one" / "models")
    trained = cases(one.training)
    second = make_domain(tmp_path / "second", cases=4, seed=1)
    two = train(
        second, tmp_path / "two", model_split=ModelSplit("", started_from=[str(tmp_path / "one/models/model.pt")])
    )
    assert two.split["ancestors"] == {}  # there is no such file
    (tmp_path / "one" / "models" / "model.pt").touch()
    (tmp_path / "one" / "checkpoints").mkdir()
    for place in ("models/model.pt", "checkpoints/encoder.pt"):
        (tmp_path / "one" / place).touch()
        two = train(second, tmp_path / "two", model_split=ModelSplit("", started_from=[str(tmp_path / "one" / place)]))
        assert two.split["ancestors"] == {"first": one.split["training"]}
    torch.save({"state_dict": {}, "split": two.split}, tmp_path / "two" / "encoder.pt")
    (tmp_path / "two" / "split.json").unlink()
    # A third set, in which a scan of the first validates under another name.
    third = grow(make_domain(tmp_path / "third", cases=4, seed=2))
    validating = cases(SegmentationDatalist(third, 0.25).validation)[0]
    shutil.copy(first / "imagesTr" / f"{trained[0]}.nii.gz", third / "imagesTr" / f"{validating}.nii.gz")
    assert not caplog.records
    started = ModelSplit("", started_from=["none", "medicalnet", None, str(tmp_path / "two" / "encoder.pt")])
    three = train(third, tmp_path / "three", model_split=started)
    assert three.split["ancestors"] == {"first": one.split["training"], "second": two.split["training"]}
    assert f"trained on by a model that this training starts from: 1 case ({validating})." in caplog.text
    with pytest.raises(ValueError, match="holds no validation case"):
        evaluate(third, tmp_path / "three")
    assert evaluate(third, tmp_path / "three", "all")[validating] == "ancestor"
    sets = evaluate(first, tmp_path / "three", "unseen")
    assert set(sets) == set(cases(one.validation))
    assert resume(third, tmp_path / "three").split["ancestors"] == three.split["ancestors"]


def test_an_encoder_that_does_not_say_what_it_trained_on_is_said(
    kidney: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"state_dict": {}, "settings": {"bundle": "lung_segmentation"}}, tmp_path / "encoder.pt")
    started = ModelSplit("", started_from=[str(tmp_path / "encoder.pt")])
    assert SegmentationDatalist(kidney, model_split=started).split["ancestors"] == {}
    assert "does not say which cases it was trained on" in caplog.text


def test_the_domains_of_a_pre_training_are_ancestors_under_their_own_names(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    for seed, name in enumerate("ab"):
        make_domain(tmp_path / "data" / name, cases=4, seed=seed)
    split = MultiDomainDatalist(tmp_path / "data", val_fraction=0.25).split
    write_json(tmp_path / "models" / "split.json", split)
    (tmp_path / "models" / "model.pt").touch()
    started = ModelSplit("", started_from=[str(tmp_path / "models" / "model.pt")])
    ancestors = SegmentationDatalist(tmp_path / "data" / "a", model_split=started).split["ancestors"]
    assert {f"{name}/{case}": x for name, found in ancestors.items() for case, x in found.items()} == split["training"]
    assert set(ancestors) == {"a", "b"}


# Other lists.


def test_domains_keep_their_splits_together(tmp_path: Path, make_domain: MakeDomain) -> None:
    for seed, name in enumerate("ab"):
        make_domain(tmp_path / "data" / name, cases=4, seed=seed)
    trained = MultiDomainDatalist(tmp_path / "data", val_fraction=0.25)
    write_json(tmp_path / "models" / "split.json", trained.split)
    grow(tmp_path / "data" / "b", *(f"more_{number}" for number in range(8)))
    resumed = MultiDomainDatalist(tmp_path / "data", model_split=ModelSplit(tmp_path / "models", resume=True))
    assert (resumed.training, resumed.validation) == (trained.training, trained.validation)
    assert resumed.split == trained.split
    # A folder that lacks the cases of a domain is scored on those of the other.
    validating = [item["case"] for item in trained.validation if item["domain"] == "a"]
    content = json.loads((tmp_path / "data" / "a" / "dataset.json").read_text(encoding="utf-8"))["training"]
    edit(tmp_path / "data" / "a", training=[entry for entry in content if f"/{validating[0]}." not in entry["image"]])
    scored = MultiDomainDatalist(tmp_path / "data", model_split=ModelSplit(tmp_path / "models", cases="validation"))
    assert [(item["domain"], item["set"]) for item in scored.validation] == [("b", "validation")]
    with pytest.raises(ValueError, match=rf"lacks 1 case \(a/{validating[0]}\)"):
        MultiDomainDatalist(tmp_path / "data", model_split=ModelSplit(tmp_path / "models", resume=True))


def write_nodule_scans(folder: Path, nodules: list[dict[str, Any]]) -> Path:
    """Write a dataset.json of nodules, and each scan that it names, of its own content."""
    for name in {nodule["image"] for nodule in nodules}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        volume = np.random.default_rng(sum(map(ord, name))).random((8, 8, 8), np.float32)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / name)
    (folder / "dataset.json").write_text(json.dumps({"nodules": nodules}))
    return folder


def nodule(image: str, score: int, place: int, patient: str | None = None) -> dict[str, Any]:
    named = {} if patient is None else {"patient": patient}
    return {"image": image, "malignancy": score, "center_mm": [place, 2, 2], **named}


def test_a_nodule_in_a_scan_or_of_a_patient_that_trained_has_trained(tmp_path: Path) -> None:
    nodules = [nodule(f"{i}.nii", score, 2, f"p{i}") for i, score in enumerate([1, 5] * 4)]
    folder = write_nodule_scans(tmp_path / "lidc", nodules)
    trained = NoduleDatalist(folder, folds=4)
    write_json(tmp_path / "split.json", trained.split)
    one, other = trained.training[0], trained.validation[0]
    more = [nodule(f"{one['case']}.nii", 5, 5), nodule("x.nii", 5, 2, one["patient"]), nodule("y.nii", 5, 2, "p99")]
    write_nodule_scans(folder, [*more, *nodules])  # the names of two nodules in a scan change with their order
    sets: dict[str, dict[str, str]] = {}
    for which in ("validation", "unseen", "all"):
        datalist = NoduleDatalist(folder, model_split=ModelSplit(tmp_path, cases=which))
        sets[which] = {item["case"]: item["set"] for item in datalist.validation}
    assert sets["validation"] == dict.fromkeys(cases(trained.validation), "validation")
    assert sets["unseen"] == {"y": "new"} | sets["validation"]
    assert {case for case, name in sets["all"].items() if name.startswith("training")} == {
        *cases(trained.training),
        f"{one['case']}_2",
        "x",
    }
    resumed = NoduleDatalist(folder, model_split=ModelSplit(tmp_path, resume=True))
    assert [item["patient"] for item in resumed.training] == [item["patient"] for item in trained.training]
    assert [item["center_mm"] for item in resumed.training] == [item["center_mm"] for item in trained.training]
    assert list(resumed.split["training"].values()) == list(trained.split["training"].values())
    assert other["case"] in cases(resumed.validation)


def test_a_corrected_score_of_a_nodule_is_a_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodules = [nodule(f"{i}.nii", score, 2, f"p{i}") for i, score in enumerate([1, 5] * 4)]
    folder = write_nodule_scans(tmp_path / "lidc", nodules)
    trained = NoduleDatalist(folder, folds=4)
    write_json(tmp_path / "split.json", trained.split)
    case = trained.validation[0]["case"]
    nodules[int(case)]["malignancy"] = 4
    write_nodule_scans(folder, nodules)
    scored = NoduleDatalist(folder, model_split=ModelSplit(tmp_path, cases="validation")).validation
    assert {item["case"]: item["set"] for item in scored}[case] == "validation (changed)"


def test_scans_without_labels_are_known_by_their_images_in_other_bundles_too(
    kidney: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = ImageDatalist(kidney, 0.25, draws=2)
    write_json(tmp_path / "split.json", trained.split)
    folder = grow(copy(kidney, "scans"), "more")
    resumed = ImageDatalist(folder, 0.25, draws=2, model_split=ModelSplit(tmp_path, resume=True))
    assert cases(resumed.training) == cases(trained.training)
    assert cases(resumed.validation) == cases(trained.validation)
    scored = ImageDatalist(folder, model_split=ModelSplit(tmp_path, cases="unseen"))
    assert sorted(cases(scored.validation)) == sorted([*cases(trained.validation), "more"])
    (tmp_path / "model.pt").touch()
    started = ModelSplit("", started_from=[str(tmp_path / "model.pt")])
    assert SegmentationDatalist(copy(kidney, "renamed"), 1, model_split=started).split["ancestors"]
    assert "trained on by a model that this training starts from: 6 cases (" in caplog.text


def test_a_dicom_series_is_known_by_all_of_its_files_in_any_folder(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).integers(0, 100, (3, 6, 5, 4))
    for number, volume in enumerate(volumes):
        write_series(tmp_path / "a" / f"ct_{number}", volume, np.eye(4))
    shutil.copytree(tmp_path / "a" / "ct_0", tmp_path / "b" / "other")
    file = next((tmp_path / "b" / "other").iterdir())
    file.rename(file.with_name("renamed.dcm"))
    one = place_digests(tmp_path / "a", [tmp_path / "a" / f"ct_{number}" for number in range(3)])
    (other,) = place_digests(tmp_path / "b", [tmp_path / "b" / "other"]).values()
    assert other == one[str(tmp_path / "a" / "ct_0")]
    assert len(set(one.values())) == 3


def test_the_voxels_beside_a_header_count(tmp_path: Path) -> None:
    header, data = tmp_path / "a.mhd", tmp_path / "voxels.bin"
    header.write_text("ObjectType = Image\nElementDataFile = voxels.bin\n")
    data.write_bytes(b"1")
    before = place_digests(tmp_path, [header])
    data.write_bytes(b"2")
    assert place_digests(tmp_path, [header]) != before


def test_files_are_read_once_and_again_where_they_change_and_a_folder_may_be_read_only(
    kidney: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Names = []
    digest = "med3d_components.data.digests._content_digest"
    monkeypatch.setattr(digest, lambda path: read.append(path.name) or f"{len(read):<064}")
    first = SegmentationDatalist(kidney).split
    assert SegmentationDatalist(kidney).split == first
    assert len(read) == 16
    change(kidney / "imagesTr" / "case_3.nii.gz")
    assert SegmentationDatalist(kidney).split != first
    assert read[16:] == ["case_3.nii.gz"]
    assert (kidney / KEPT).is_file()

    def refuse(path: Path, content: Any) -> None:
        raise PermissionError(path)

    (kidney / KEPT).unlink()
    monkeypatch.setattr("med3d_components.data.kept.write_json", refuse)
    assert SegmentationDatalist(kidney).split.keys() == first.keys()
    assert not (kidney / KEPT).exists()
