from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data import ImageDatalist, MultiDomainDatalist, SegmentationDatalist
from tests.conftest import MakeDomain


def edit(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}))


def test_spacing_is_the_median_of_the_training_images_of_each_domain(tmp_path: Path, make_domain: MakeDomain) -> None:
    make_domain(tmp_path / "ct", spacing=(0.5, 0.5, 2))
    folder = make_domain(tmp_path / "mr", cases=6)
    for case, spacing in enumerate((1.0, 1.0, 1.2, 1.4, 5.0, 5.0)):
        for kind in ("images", "labels"):
            path = folder / f"{kind}Tr" / f"case_{case}.nii.gz"
            nib.save(nib.Nifti1Image(nib.load(path).get_fdata().astype(np.float32), np.eye(4) * spacing), path)
    datalist = MultiDomainDatalist(tmp_path, val_fraction=0.2)
    training = [name for name in datalist.split["training"] if name.startswith("mr/")]
    spacings = [(1.0, 1.0, 1.2, 1.4, 5.0, 5.0)[int(name[-1])] for name in training]
    assert datalist.spacing["ct"] == [0.5, 0.5, 2.0]
    assert datalist.spacing["mr"] == pytest.approx([float(np.median(spacings))] * 3)


def test_the_region_is_the_largest_training_volume_in_multiples_of_eight(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    make_domain(tmp_path / "a", size=(24, 28, 20))
    assert MultiDomainDatalist(tmp_path).roi_size == {"a": [24, 32, 24]}
    assert MultiDomainDatalist(tmp_path, patch_size=(16, 96, 96)).roi_size == {"a": [16, 32, 24]}


def test_the_region_is_a_multiple_of_the_encoders_stride_along_each_axis(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    folder = make_domain(tmp_path / "a", size=(24, 28, 15))
    assert SegmentationDatalist(folder, output_stride=(8, 8, 2)).roi_size == [24, 32, 16]
    assert MultiDomainDatalist(tmp_path, output_stride=(4, 2, 1)).roi_size == {"a": [24, 28, 15]}


def test_the_split_depends_on_seed_and_names_alone(tmp_path: Path, make_domain: MakeDomain) -> None:
    make_domain(tmp_path / "a", cases=10)
    first = MultiDomainDatalist(tmp_path, val_fraction=0.3)
    make_domain(tmp_path / "b", cases=5)
    content = json.loads((tmp_path / "a" / "dataset.json").read_text(encoding="utf-8"))
    edit(tmp_path / "a", training=content["training"][::-1])
    second = MultiDomainDatalist(tmp_path, val_fraction=0.3)

    def cases(datalist: MultiDomainDatalist, part: str) -> list[str]:
        return [name for name in datalist.split[part] if name.startswith("a/")]

    for part in ("training", "validation"):
        assert cases(first, part) == cases(second, part)
    assert len(cases(first, "validation")) == 3
    assert not set(cases(first, "validation")) & set(cases(first, "training"))
    other = MultiDomainDatalist(tmp_path, val_fraction=0.3, seed=1)
    assert cases(other, "validation") != cases(first, "validation")


def test_every_domain_keeps_a_case_on_both_sides(tmp_path: Path, make_domain: MakeDomain) -> None:
    make_domain(tmp_path / "a", cases=2)
    for fraction in (0.0, 0.99):
        datalist = MultiDomainDatalist(tmp_path, val_fraction=fraction)
        assert (len(datalist.training), len(datalist.validation)) == (1, 1)


def test_with_a_fraction_of_1_every_case_is_on_both_sides(tmp_path: Path, make_domain: MakeDomain) -> None:
    make_domain(tmp_path / "a", cases=3)
    datalist = MultiDomainDatalist(tmp_path, val_fraction=1)
    assert (
        list(datalist.split["training"]) == list(datalist.split["validation"]) == ["a/case_0", "a/case_1", "a/case_2"]
    )


def test_domains_can_be_named_in_three_ways(tmp_path: Path, make_domain: MakeDomain) -> None:
    for name in "abc":
        make_domain(tmp_path / name)
    for names in ("a,b", ["b", "a"], ("a", "b", "a")):
        assert list(MultiDomainDatalist(tmp_path, names).spacing) == ["a", "b"]
    assert list(MultiDomainDatalist(tmp_path, "c").spacing) == ["c"]


def test_a_folder_without_dataset_json_is_skipped_unless_it_is_named(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    make_domain(tmp_path / "a")
    (tmp_path / "notes").mkdir()
    with caplog.at_level(logging.WARNING):
        assert list(MultiDomainDatalist(tmp_path).spacing) == ["a"]
    assert "notes has no dataset.json and is skipped" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"notes/dataset\.json does not exist"):
        MultiDomainDatalist(tmp_path, "notes")


def test_the_channel_of_a_4d_image_comes_from_its_dataset(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a")
    nib.save(nib.Nifti1Image(np.ones((24, 28, 20, 3), np.float32), np.eye(4)), folder / "imagesTr" / "case_0.nii.gz")
    with pytest.raises(ValueError, match=r'has 3 channels; say which to use, as "channel": N'):
        MultiDomainDatalist(tmp_path)
    edit(folder, channel=2)
    assert MultiDomainDatalist(tmp_path).channel == {"a": 2}
    edit(folder, channel=3)
    with pytest.raises(ValueError, match="there is no channel 3"):
        MultiDomainDatalist(tmp_path)


def test_unknown_domains_are_answered_with_those_there_are(tmp_path: Path, make_domain: MakeDomain) -> None:
    make_domain(tmp_path / "a")
    with pytest.raises(ValueError, match=r"domains: b not in .*; it holds a\."):
        MultiDomainDatalist(tmp_path, "a,b")
    with pytest.raises(FileNotFoundError, match="which is not a folder"):
        MultiDomainDatalist(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no domain"):
        MultiDomainDatalist(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"0": "background", "2": "liver"}}, "without a gap"),
        ({"labels": ["background"]}, "without a gap"),
        ({"labels": {"0": "background"}}, "at least one class"),
        ({"training": []}, "lists 0 training volumes"),
        ({"training": [{"image": "./imagesTr/case_0.nii.gz"}] * 2}, "must have 'image' and 'label'"),
        ({"labels": {"0": "background", "1": "case"}}, "a class is called 'case', as a column of the tables is"),
        ({"labels": {"0": "background", "1": "liver", "2": "liver "}}, "two classes are called 'liver'"),
    ],
)
def test_a_wrong_dataset_json_says_what_is_wrong(
    tmp_path: Path, make_domain: MakeDomain, changes: dict[str, object], message: str
) -> None:
    edit(make_domain(tmp_path / "a"), **changes)
    with pytest.raises(ValueError, match=message):
        MultiDomainDatalist(tmp_path)


def test_wrong_folders_and_files_are_named(tmp_path: Path, make_domain: MakeDomain) -> None:
    (make_domain(tmp_path / "json") / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"json/dataset\.json must be JSON"):
        MultiDomainDatalist(tmp_path, "json")
    make_domain(tmp_path / "with.dot")
    with pytest.raises(ValueError, match="a dot in its name"):
        MultiDomainDatalist(tmp_path, "with.dot")
    (make_domain(tmp_path / "label") / "labelsTr" / "case_1.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"labelsTr/case_1\.nii\.gz, the label of"):
        MultiDomainDatalist(tmp_path, "label")
    shape = make_domain(tmp_path / "shape")
    nib.save(nib.Nifti1Image(np.zeros((25, 28, 20), np.uint8), np.eye(4)), shape / "labelsTr" / "case_1.nii.gz")
    with pytest.raises(ValueError, match=r"case_1: its label .*case_1.nii.gz lies up to 1 mm off its image: its 25 x"):
        MultiDomainDatalist(tmp_path, "shape")


def test_a_folder_that_is_a_domain_itself_is_taken_as_that_domain(tmp_path: Path, make_domain: MakeDomain) -> None:
    make_domain(tmp_path / "ct")
    whole, one, single = MultiDomainDatalist(tmp_path), MultiDomainDatalist(tmp_path / "ct"), tmp_path / "ct"
    assert one.training == whole.training
    datalist = SegmentationDatalist(single)
    assert datalist.training == [{k: v for k, v in item.items() if k != "domain"} for item in one.training]
    assert (datalist.name, datalist.classes) == ("ct", one.classes["ct"])
    with pytest.raises(ValueError, match=r"domains: mr not in .*; it holds ct"):
        MultiDomainDatalist(single, "mr")


def test_the_spacing_of_a_dataset_is_the_median_or_the_mean(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "ct", cases=4)
    for case, spacing in enumerate((1.0, 1.0, 4.0, 4.0)):
        for kind in ("images", "labels"):
            path = folder / f"{kind}Tr" / f"case_{case}.nii.gz"
            nib.save(nib.Nifti1Image(nib.load(path).get_fdata().astype(np.float32), np.eye(4) * spacing), path)
    spacings = {f"case_{case}": spacing for case, spacing in enumerate((1.0, 1.0, 4.0, 4.0))}
    for average, function in (("median", np.median), ("mean", np.mean)):
        datalist = SegmentationDatalist(folder, average=average)
        expected = function([spacings[name] for name in datalist.split["training"]])
        assert datalist.spacing == pytest.approx([expected] * 3)
    with pytest.raises(ValueError, match="average is 'mode', but must be one of median, mean"):
        SegmentationDatalist(folder, average="mode")


def test_images_without_spacing_are_left_out_of_the_average_where_they_are_allowed(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_domain(tmp_path / "ct", cases=3, spacing=(2, 2, 2))
    name = SegmentationDatalist(folder).training[0]["case"]

    def erase(case: str) -> None:
        for kind in ("images", "labels"):
            image = nib.load(folder / f"{kind}Tr" / f"{case}.nii.gz")
            header = image.header.copy()
            header["pixdim"][1:4], header["vox_offset"] = 0, 352
            content = header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")
            (folder / f"{kind}Tr" / f"{case}.nii.gz").write_bytes(gzip.compress(content))

    erase(name)
    with pytest.raises(ValueError, match=f"{name}.nii.gz has no valid spacing"):
        SegmentationDatalist(folder)
    with caplog.at_level(logging.WARNING):
        datalist = SegmentationDatalist(folder, average="mean", need_spacing=False)
    assert (datalist.spacing, datalist.roi_size) == ([2.0, 2.0, 2.0], [24, 32, 24])
    assert f"{name}.nii.gz has no valid spacing and gets the mean of the others" in caplog.text
    for case in datalist.split["training"]:
        erase(case)
    with pytest.raises(ValueError, match="No training image of ct has a valid spacing"):
        SegmentationDatalist(folder, need_spacing=False)


@pytest.mark.parametrize(("merge", "classes"), [("True", 2), (False, 4)])
def test_every_class_may_count_as_the_first(
    tmp_path: Path, make_domain: MakeDomain, merge: bool | str, classes: int
) -> None:
    folder = make_domain(tmp_path / "ct", classes=4)
    datalist = SegmentationDatalist(folder, merge_classes=merge)
    assert datalist.classes == ["background", "class 1", "class 2", "class 3"][:classes]
    assert (datalist.merged, datalist.label_values) == (classes == 2, 4)


def test_a_decathlon_folder_gives_its_images_and_no_labels(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=6)
    datalist = ImageDatalist(folder, val_fraction=0.3)
    items = datalist.training + datalist.validation
    assert datalist.name == "a"
    assert (len(datalist.training), len(datalist.validation)) == (4, 2)
    assert {item["case"] for item in items} == {f"case_{index}" for index in range(6)}
    assert all(Path(item["image"]).parent.name == "imagesTr" and set(item) == {"image", "case"} for item in items)
    plain = ImageDatalist(folder / "imagesTr", val_fraction=0.3)
    assert {item["image"] for item in plain.training + plain.validation} == {item["image"] for item in items}


def test_the_split_of_images_depends_on_seed_and_names_alone(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=8)
    first = ImageDatalist(folder, 0.5).split
    assert ImageDatalist(str(folder), 0.5).split == first
    assert ImageDatalist(folder, 0.5, seed=1).split != first
    assert not set(first["training"]) & set(first["validation"])


def test_training_volumes_are_listed_once_per_draw(tmp_path: Path, make_domain: MakeDomain) -> None:
    datalist = ImageDatalist(make_domain(tmp_path / "a", cases=4), draws=3)
    assert [item["case"] for item in datalist.training] == list(datalist.split["training"]) * 3
    assert len(datalist.validation) == 1


def test_one_image_is_not_enough(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=1)
    with pytest.raises(ValueError, match="holds one volume; at least 2 are needed"):
        ImageDatalist(folder)
    with pytest.raises(FileNotFoundError, match="holds no volume"):
        ImageDatalist(tmp_path / "missing")
