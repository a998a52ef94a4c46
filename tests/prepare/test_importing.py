from __future__ import annotations

from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from med3d_components.data import SegmentationDatalist
from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.domains import DomainFacts
from med3d_components.data.labelled import read_domain
from med3d_components.prepare.importing import CaseFiles, LabelFile, import_cases, import_domain
from med3d_components.transforms import LoadLabeld
from med3d_components.utils import write_json
from tests.data.dicom_files import write_series

FACTS = DomainFacts("CT", "lung", ("background", "lung"), "a test", "none")
AFFINE = np.array([[-0.7, 0, 0, 11], [0, -0.8, 0, -7], [0, 0, 2.5, 4], [0, 0, 0, 1]])
VALUES = {0: 0, 1: 1}


def image(shape: tuple[int, ...] = (6, 8, 5)) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1000, 900, shape).astype(np.int16)


def label(value: float = 1, dtype: Any = np.uint8) -> NDArray[Any]:
    array = np.zeros((6, 8, 5), dtype)
    array[2:4, 2:6, 1:3] = value
    return array


def save(path: Path, array: NDArray[Any]) -> Path:
    """Write an array in the format of the path's ending, all with the same geometry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        nib.save(nib.Nifti1Image(array, AFFINE), path)
        return path
    volume = itk.image_from_array(np.ascontiguousarray(array.T))
    volume.SetSpacing([0.7, 0.8, 2.5])
    volume.SetOrigin([-11.0, 7.0, 4.0])  # LPS, as ITK has it
    itk.imwrite(volume, str(path))
    return path


def run(folder: Path, image: Path, label: Path, facts: DomainFacts = FACTS) -> bool:
    return import_domain(folder / "Lung", facts, {"a": (image, label)}, VALUES)


def written(folder: Path, part: str) -> nib.Nifti1Image:
    return nib.load(folder / "Lung" / part / "a.nii.gz")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_voxels_and_geometry_are_the_same_from_every_format(tmp_path: Path, ending: str) -> None:
    files = [save(tmp_path / part / f"a{ending}", array) for part, array in (("i", image()), ("l", label()))]
    assert run(tmp_path, *files)
    for part, array in (("imagesTr", image()), ("labelsTr", label())):
        volume = written(tmp_path, part)
        np.testing.assert_array_equal(volume.dataobj, array)
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
        assert volume.get_data_dtype() == array.dtype


def test_a_dicom_series_keeps_its_hu_and_its_place(tmp_path: Path) -> None:
    write_series(tmp_path / "a", image(), AFFINE, shuffle=True)
    assert run(tmp_path, tmp_path / "a", save(tmp_path / "l" / "a.nii", label()))
    volume = written(tmp_path, "imagesTr")
    np.testing.assert_array_equal(volume.dataobj, image())
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.get_data_dtype() == np.int16


def test_an_incomplete_dicom_series_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", image(), AFFINE, leave_out=[2])
    with pytest.raises(ValueError, match="misses slices"):
        run(tmp_path, tmp_path / "a", save(tmp_path / "l" / "a.nii", label()))


def test_an_image_of_more_channels_than_the_domain_is_refused(tmp_path: Path) -> None:
    channels = save(tmp_path / "i" / "a.nii", image((6, 8, 5, 2)))
    with pytest.raises(ValueError, match=r"a has 2 channels, but should have 1 \(image\); split its image"):
        run(tmp_path, channels, save(tmp_path / "l" / "a.nii", label()))


def test_a_4d_image_has_its_channels(tmp_path: Path) -> None:
    facts = DomainFacts("MRI", "lung", ("background", "lung"), "", "", channels=("T2", "ADC"))
    both = image((6, 8, 5, 2))
    files = save(tmp_path / "i.nii", both), save(tmp_path / "l.nii", label())
    import_domain(tmp_path / "Lung", facts, {"a": files}, VALUES)
    np.testing.assert_array_equal(written(tmp_path, "imagesTr").dataobj, both)


def test_where_regions_overlap_the_higher_class_is_written_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    inner = label()
    outer = np.ones_like(inner)
    low = LabelFile(save(tmp_path / "o.nii", outer), {1: 1})
    high = LabelFile(save(tmp_path / "i.nii", inner), {0: 0, 1: 2})
    facts = DomainFacts("CT", "liver", ("background", "liver", "tumour"), "", "")
    for name, order in (("one", (low, high)), ("other", (high, low))):
        import_cases(tmp_path / name, facts, {"a": CaseFiles((save(tmp_path / "s.nii", image()),), order)})
        np.testing.assert_array_equal(nib.load(tmp_path / name / "labelsTr" / "a.nii.gz").dataobj, outer + inner)


def test_several_labels_of_a_case_become_one(tmp_path: Path) -> None:
    names = ("left.nii", "right.nii")
    left, right = label(255), np.roll(label(255), 1, axis=0)
    files = [save(tmp_path / name, array) for name, array in zip(names, (left, right), strict=True)]
    labels = LabelFile(files[0], {0: 0, 255: 1}), LabelFile(files[1], {0: 0, 255: 2})
    case = CaseFiles((save(tmp_path / "i.nii", image()),), labels)
    import_cases(tmp_path / "Lung", DomainFacts("CT", "lungs", ("background", "left", "right"), "", ""), {"a": case})
    expected = np.where(right > 0, 2, left > 0)
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, expected)


def test_the_same_files_are_imported_once_and_other_work_is_refused(tmp_path: Path) -> None:
    files = save(tmp_path / "i.nii", image()), save(tmp_path / "l.nii", label())
    assert run(tmp_path, *files)
    assert not run(tmp_path, *files)
    renamed = DomainFacts("CT", "lung", ("background", "lungs"), "a test", "none")
    with pytest.raises(FileExistsError, match="already holds other data: its classes are background, lung, not backgr"):
        run(tmp_path, *files, facts=renamed)
    others = save(tmp_path / "other.nii", image() + 1), save(tmp_path / "others.nii", np.roll(label(), 1))
    with pytest.raises(FileExistsError, match="already holds other data: none of its cases was made of one of these"):
        run(tmp_path, *others)


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<i2"])
def test_big_endian_files_and_a_last_axis_of_one_are_imported(tmp_path: Path, dtype: str) -> None:
    files = [tmp_path / f"{part}.nii.gz" for part in ("i", "l")]
    for path, array in zip(files, (image(), label()), strict=True):
        header = nib.Nifti1Header(endianness=dtype[0])
        nib.save(nib.Nifti1Image(array.astype(dtype)[..., None], AFFINE, header), path)
    assert run(tmp_path, *files)
    np.testing.assert_array_equal(written(tmp_path, "imagesTr").dataobj, image())
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, label())
    np.testing.assert_allclose(written(tmp_path, "labelsTr").affine, AFFINE, atol=1e-5)


def test_labels_scaled_to_1_by_the_header_are_classes_and_nearly_1_is_refused(tmp_path: Path) -> None:
    stored = nib.Nifti1Image(label(255), AFFINE)
    stored.header.set_slope_inter(1 / 255, 0)
    path = tmp_path / "l.nii.gz"
    raw = stored.header.copy()
    raw["scl_slope"], raw["vox_offset"] = 1 / 255, 352
    with nib.openers.ImageOpener(path, "wb") as file:
        file.write(raw.binaryblock + bytes(4) + label(255).tobytes(order="F"))
    assert run(tmp_path, save(tmp_path / "i.nii.gz", image()), path)
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, label())
    nearly = save(tmp_path / "nearly.nii.gz", label(0.99, np.float32))
    with pytest.raises(ValueError, match=r"nearly\.nii\.gz holds the values 0\.99, but those of a label are whole"):
        run(tmp_path / "again", tmp_path / "i.nii.gz", nearly)


def test_a_case_whose_geometry_is_none_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "i.nii.gz"
    nib.save(nib.Nifti1Image(image(), np.diag([0.7, 0.7, 250, 1])), bad)
    with pytest.raises(ValueError, match=r"i\.nii\.gz has a voxel size of 0\.7 x 0\.7 x 250 mm, but 0\.001 to 100 mm"):
        run(tmp_path, bad, save(tmp_path / "l.nii.gz", label()))


def reorient(path: Path, codes: str, box: tuple[slice, ...] = ()) -> Path:
    """Write a part of a NIfTI file in another orientation, as nibabel turns it."""
    volume = nib.load(path)
    turn = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(codes))
    nib.save((volume.slicer[box] if box else volume).as_reoriented(turn), out := path.with_name(f"{codes}.nii.gz"))
    return out


@pytest.mark.parametrize("codes", ["RAS", "LAS", "SPL", "AIR"])
@pytest.mark.parametrize("box", [(), (slice(1, 6), slice(1, 8), slice(0, 4))], ids=["whole", "a part"])
def test_a_label_in_another_orientation_is_written_on_its_image(
    tmp_path: Path, codes: str, box: tuple[slice, ...]
) -> None:
    files = save(tmp_path / "i.nii.gz", image()), save(tmp_path / "l.nii.gz", label())
    assert run(tmp_path, files[0], reorient(files[1], codes, box))
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, label())
    np.testing.assert_allclose(written(tmp_path, "labelsTr").affine, written(tmp_path, "imagesTr").affine)


def test_a_label_that_lies_elsewhere_is_refused_with_its_distance(tmp_path: Path) -> None:
    moved = nib.Nifti1Image(label(), nib.affines.from_matvec(np.eye(3), [0, 0, 25]) @ AFFINE)
    nib.save(moved, tmp_path / "l.nii.gz")
    with pytest.raises(ValueError, match=r"a: its label .*l\.nii\.gz lies up to 25 mm off its image: it is moved"):
        run(tmp_path, save(tmp_path / "i.nii.gz", image()), tmp_path / "l.nii.gz")
    assert not (tmp_path / "Lung").exists()


def test_four_hundred_regions_over_two_files_are_four_hundred_classes(tmp_path: Path) -> None:
    regions = np.arange(240).reshape(6, 8, 5)
    halves = [np.where(regions < 120, regions + 1, 0), np.where(regions >= 120, regions - 119, 0)]
    files = [save(tmp_path / f"{i}.nii.gz", half.astype(np.int16)) for i, half in enumerate(halves)]
    values = [{0: 0, **{value: value + start for value in range(1, 201)}} for start in (0, 200)]
    case = CaseFiles((save(tmp_path / "i.nii.gz", image()),), tuple(map(LabelFile, files, values)))
    names = ("background", *(f"region {value}" for value in range(1, 401)))
    assert import_cases(tmp_path / "Lung", DomainFacts("MR", "brain", names, "", ""), {"a": case})
    found = written(tmp_path, "labelsTr")
    np.testing.assert_array_equal(found.dataobj, np.where(regions < 120, regions + 1, regions + 81))
    assert found.get_data_dtype() == np.uint16
    assert SegmentationDatalist(double(tmp_path / "Lung")).volumes_ml["region 320"]


def double(folder: Path) -> Path:
    """List the one case of a domain again, as files of other names and contents."""
    path = folder / "dataset.json"
    content = read_dataset_json(path)
    (entry,) = content["training"]
    other = {part: entry[part].replace("a.nii", "b.nii") for part in ("image", "label")}
    for part in other:
        (folder / other[part]).write_bytes((folder / entry[part]).read_bytes())
    write_json(path, content | {"training": [entry, other]})
    return folder


def test_large_values_are_classes_of_their_own(tmp_path: Path) -> None:
    array = label(dtype=np.int32) * 16777216
    array[0] = 16777217
    files = save(tmp_path / "i.nii.gz", image()), save(tmp_path / "l.nii.gz", array)
    facts = DomainFacts("CT", "two", ("background", "one", "two"), "", "")
    import_domain(tmp_path / "Lung", facts, {"a": files}, {0: 0, 16777216: 1, 16777217: 2})
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, np.where(array == 16777217, 2, array > 0))


def test_one_hot_labels_are_imported_as_their_classes(tmp_path: Path) -> None:
    classes = np.random.default_rng(0).integers(0, 3, (6, 8, 5))
    one_hot = np.stack([classes == value for value in range(3)], axis=-1).astype(np.uint8)
    files = save(tmp_path / "i.nii.gz", image()), save(tmp_path / "l.nii.gz", one_hot)
    facts = DomainFacts("CT", "two", ("background", "one", "two"), "", "")
    assert import_domain(tmp_path / "Lung", facts, {"a": files}, {0: 0, 1: 1, 2: 2})
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, classes)
    (entry,) = read_dataset_json(tmp_path / "Lung" / "dataset.json")["training"]
    assert entry["voxels"] == {"1": int((classes == 1).sum()), "2": int((classes == 2).sum())}


def test_an_image_per_channel_makes_a_4d_file_on_the_grid_of_the_first(tmp_path: Path) -> None:
    first, second = save(tmp_path / "1.nii.gz", image()), save(tmp_path / "2.nii.gz", image()[::-1].copy())
    case = CaseFiles((first, reorient(second, "ASR")), (LabelFile(save(tmp_path / "l.nii.gz", label()), VALUES),))
    facts = DomainFacts("MR", "lung", ("background", "lung"), "", "", channels=("T1", "T2"))
    assert import_cases(tmp_path / "Lung", facts, {"a": case})
    np.testing.assert_array_equal(written(tmp_path, "imagesTr").dataobj, np.stack([image(), image()[::-1]], axis=-1))
    with pytest.raises(
        ValueError, match=r"b has 1 channels, but should have 2 \(T1, T2\); split its image, or add a file"
    ):
        import_cases(tmp_path / "Other", facts, {"b": CaseFiles(case.images[:1], case.labels)})


def test_cases_of_sub_folders_lie_in_one_folder(tmp_path: Path) -> None:
    files = [(save(tmp_path / f"i{n}.nii", image() + n), save(tmp_path / f"l{n}.nii", label())) for n in range(2)]
    pairs = {"p1/ct": files[0], "p2/ct": files[1]}
    assert import_domain(tmp_path / "Lung", FACTS, pairs, VALUES)
    assert not import_domain(tmp_path / "Lung", FACTS, pairs, VALUES)
    assert sorted(path.name for path in (tmp_path / "Lung" / "labelsTr").iterdir()) == ["p1_ct.nii.gz", "p2_ct.nii.gz"]
    with pytest.raises(ValueError, match="Two cases would be called p1_ct"):
        import_domain(tmp_path / "Two", FACTS, {"p1/ct": files[0], "p1_ct": files[1]}, VALUES)


def test_what_training_takes_the_import_takes(tmp_path: Path) -> None:
    """The labels that a training reads come out of an import with the same voxels, as MONAI reads both."""
    source = write_training_set(tmp_path / "source")
    (tmp_path / "source" / "dataset.json").unlink()
    pairs = {name: tuple(source / part / f"{name}.nii.gz" for part in ("imagesTr", "labelsTr")) for name in KINDS}
    assert import_domain(tmp_path / "Imported", THREE, pairs, {0: 0, 1: 1, 2: 2})
    for name in KINDS:
        loaded = [
            LoadLabeld("label", 3)({part: str(folder / f"{part}sTr" / f"{name}.nii.gz") for part in ("image", "label")})
            for folder in (source, tmp_path / "Imported")
        ]
        np.testing.assert_array_equal(loaded[0]["label"], loaded[1]["label"])
        np.testing.assert_array_equal(loaded[1]["label"][0], CLASSES)


CLASSES = np.random.default_rng(1).integers(0, 3, (6, 8, 5)).astype(np.uint8)
THREE = DomainFacts("CT", "two", ("background", "one", "two"), "", "")
KINDS = {
    "plain": (CLASSES, "<"),
    "big_endian": (CLASSES.astype(np.int16), ">"),
    "trailing_axis": (CLASSES[..., None], "<"),
    "float": (CLASSES.astype(np.float32) + 1e-4, "<"),
    "one_hot": (np.stack([np.equal(CLASSES, value) for value in range(3)], axis=-1).astype(np.uint8), "<"),
}


def write_training_set(folder: Path) -> Path:
    for name, (array, order) in KINDS.items():
        for part, content in (("imagesTr", image().astype(f"{order}i2")), ("labelsTr", array)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            header = nib.Nifti1Header(endianness=order)
            nib.save(nib.Nifti1Image(content, AFFINE, header), folder / part / f"{name}.nii.gz")
    entries = [{part: f"{part}sTr/{name}.nii.gz" for part in ("image", "label")} for name in KINDS]
    labels = {str(value): name for value, name in enumerate(THREE.classes)}
    write_json(folder / "dataset.json", {"labels": labels, "training": entries})
    return folder


def test_a_training_lists_labels_of_every_kind(tmp_path: Path) -> None:
    domain = read_domain(write_training_set(tmp_path / "source"))
    expected = {value: int(np.equal(CLASSES, value).sum()) for value in range(3)}
    assert [dict(case.voxels) for case in domain.cases] == [expected] * len(KINDS)
