from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from med3d_components.prepare.layouts import LabelSource
from med3d_components.prepare.layouts.task import read_task


def write_task(folder: Path, files: list[str], **content: Any) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def nnunet(folder: Path, files: list[str], **content: Any) -> Path:
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, **content}
    return write_task(folder, files, **{"file_ending": ".nii.gz", **content})


def decathlon(folder: Path, *names: str, files: list[str] | None = None, **content: Any) -> Path:
    pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    files = [path for pair in pairs for path in pair.values()] if files is None else files
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    return write_task(folder, files, **{"labels": labels, "training": pairs, "modality": {"0": "CT"}, **content})


def test_a_task_of_the_decathlon_has_its_classes_channels_and_licence(tmp_path: Path) -> None:
    layout = read_task(decathlon(tmp_path, "a", "b", licence="CC0", reference="a clinic"))
    assert list(layout.cases) == ["a", "b"]
    assert layout.cases["a"].images == (tmp_path / "imagesTr/a.nii.gz",)
    assert layout.cases["a"].labels == (LabelSource(tmp_path / "labelsTr/a.nii.gz"),)
    assert layout.names == {1: "liver", 2: "tumour"}
    assert (layout.channels, layout.licence, layout.source) == (("CT",), "CC0", "a clinic")


def test_a_raw_dataset_of_nnunet_has_a_file_for_each_channel_and_labels_the_other_way_round(tmp_path: Path) -> None:
    files = [f"imagesTr/{case}_000{channel}.nrrd" for case in ("a_1", "b") for channel in (1, 0)]
    files += ["labelsTr/a_1.nrrd", "labelsTr/b.nrrd", "labelsTr/._b.nrrd", "imagesTs/c_0000.nrrd"]
    channels = {"0": "T2", "1": "ADC"}
    layout = read_task(nnunet(tmp_path, files, channel_names=channels, file_ending=".nrrd"))
    assert layout.title == "raw dataset of nnU-Net"
    assert list(layout.cases) == ["a_1", "b"]
    assert [path.name for path in layout.cases["a_1"].images] == ["a_1_0000.nrrd", "a_1_0001.nrrd"]
    assert layout.channels == ("T2", "ADC")
    assert layout.names == {1: "liver"}


def test_a_raw_dataset_of_nnunet_that_lists_its_cases_has_these_alone(tmp_path: Path) -> None:
    files = ["imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz", "x/t2.nii", "x/adc.nii", "y/seg.nii"]
    listed = {"a": {"images": ["../x/t2.nii", "../x/adc.nii"], "label": "../y/seg.nii"}}
    files = files[:2] + [f"../{name}" for name in files[2:]]
    (tmp_path / "raw").mkdir()
    layout = read_task(nnunet(tmp_path / "raw", files, dataset=listed, channel_names={"0": "T2", "1": "ADC"}))
    assert layout.title == "raw dataset of nnU-Net"
    ((name, case),) = layout.cases.items()
    assert name == "a"
    assert [path.resolve() for path in case.images] == [tmp_path / "x/t2.nii", tmp_path / "x/adc.nii"]
    assert [label.path.resolve() for label in case.labels] == [tmp_path / "y/seg.nii"]


def test_a_task_for_nnunet_1_leaves_the_channel_out_of_its_list(tmp_path: Path) -> None:
    layout = read_task(decathlon(tmp_path, "a", files=["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]))
    assert layout.cases["a"].images == (tmp_path / "imagesTr/a_0000.nii.gz",)


def test_regions_and_what_nobody_labelled_are_told_from_classes(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    layout = read_task(nnunet(tmp_path, ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"], labels=labels))
    assert (layout.names, layout.parts, layout.unlabelled) == ({2: "core"}, {"whole": (1, 2)}, 3)


def test_names_that_differ_in_unicodes_form_alone_belong_together(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "M\u00fcller") for form in ("NFC", "NFD"))
    layout = read_task(nnunet(tmp_path / "n", [f"imagesTr/{one}_0000.nii.gz", f"labelsTr/{other}.nii.gz"]))
    assert list(layout.cases) == [one]
    files = [f"imagesTr/{other}.nii.gz", f"labelsTr/{one}.nii.gz"]
    assert list(read_task(decathlon(tmp_path / "d", one, files=files)).cases) == [one]


@pytest.mark.parametrize(
    ("files", "content", "reason"),
    [
        (["imagesTr/a_0000.nii.gz"], {}, r"labelsTr/a.nii.gz does not exist; add it, or move the case a away"),
        (["labelsTr/a.nii.gz"], {}, r"imagesTr/a_0000.nii.gz does not exist; add it, or move the case a away"),
        (["imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"], {}, r"case a lacks its channel _0000; add the file"),
        (
            ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"],
            {"channel_names": {"0": "CT", "1": "PET"}},
            r"should have 2 channels",
        ),
        ([], {}, r"dataset.json has no case to train on"),
        (
            ["imagesTr/a_0000.nrrd", "labelsTr/a.nrrd"],
            {},
            r"no file that ends with _0000.nii.gz \(the 'file_ending' of .* is .nii.gz\); there is a_0000.nrrd; mend",
        ),
        (["imagesTr/a_0000.nii.gz"], {"file_ending": "nii"}, r"ends with _0000nii .*there is a_0000.nii.gz; mend"),
        ([], {"dataset": {}}, "'dataset' must map each case to its 'images' and 'label'"),
        (
            [],
            {"dataset": {"a": {"images": "a.nii", "label": "b.nii"}}},
            "'a' of 'dataset' must have a list of 'images'",
        ),
        ([], {"dataset": {"a": {"images": [], "label": "b.nii"}}}, "'a' of 'dataset' must have a list of 'images'"),
        (["b.nii"], {"dataset": {"a": {"images": ["a.nii"], "label": "b.nii"}}}, r"a.nii does not exist, but .* names"),
        (["a", "b"], {"dataset": {"a": {"images": ["a", "a"], "label": "b"}}}, "case a has a, a, but should have 1 ch"),
        ([], {"labels": []}, "has no 'labels' that name the classes"),
        ([], {"labels": {"liver": "x"}}, r"the class '\w+' has the value '\w+', but must have a whole number"),
        ([], {"labels": {"a": 1, "b": 1}}, "two classes of 'labels' have one value; mend it"),
        ([], {"labels": {"1": "a", "2": "a"}}, "two classes of 'labels' have one name; mend it"),
    ],
)
def test_a_dataset_of_nnunet_that_is_not_whole_gets_one_line(
    tmp_path: Path, files: list[str], content: dict[str, Any], reason: str
) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match=reason):
        read_task(nnunet(tmp_path, files, **content))


@pytest.mark.parametrize(
    ("names", "content", "reason"),
    [
        (["a", "a"], {}, "lists the case a twice; drop one"),
        (["a"], {"files": []}, r"imagesTr/a.nii.gz does not exist, but .*dataset.json names it"),
        (["a"], {"channel": 1.5}, "'channel' must be a whole number, 0 or more, but is 1.5"),
        ([], {"training": None}, "has no list 'training' of cases"),
        ([], {"training": ["a.nii"]}, "'a.nii' of 'training' has not both an 'image' and a 'label'"),
    ],
)
def test_a_task_that_is_not_whole_gets_one_line(
    tmp_path: Path, names: list[str], content: dict[str, Any], reason: str
) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match=reason):
        read_task(decathlon(tmp_path, *names, **content))


def test_a_case_that_lacks_a_channel_is_named(tmp_path: Path) -> None:
    files = ["imagesTr/a_0000.nii.gz", "imagesTr/a_0002.nii.gz", "labelsTr/a.nii.gz"]
    folder = decathlon(tmp_path, "a", files=files, channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(ValueError, match="2 channels are needed, but a has files for 0, 2: give each of a_0000 to"):
        read_task(folder)


def test_a_raw_dataset_of_nnunet_may_hold_a_list_that_does_not_count(tmp_path: Path) -> None:
    files = ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]
    stale = [{"image": "./imagesTr/gone.nii.gz", "label": "./labelsTr/gone.nii.gz"}]
    assert list(read_task(nnunet(tmp_path, files, training=stale)).cases) == ["a"]
