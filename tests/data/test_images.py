from __future__ import annotations

from pathlib import Path

import pytest

from med3d_components.data import ImageDatalist
from tests.conftest import MakeDomain


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


def test_the_split_depends_on_seed_and_names_alone(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=8)
    first = ImageDatalist(folder, 0.5).split
    assert ImageDatalist(str(folder), 0.5).split == first
    assert ImageDatalist(folder, 0.5, seed=1).split != first
    assert not set(first["training"]) & set(first["validation"])


def test_training_volumes_are_listed_once_per_draw(tmp_path: Path, make_domain: MakeDomain) -> None:
    datalist = ImageDatalist(make_domain(tmp_path / "a", cases=4), draws=3)
    assert [item["case"] for item in datalist.training] == datalist.split["training"] * 3
    assert len(datalist.validation) == 1


def test_one_volume_is_not_enough(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=1)
    with pytest.raises(ValueError, match="holds one volume; at least 2 are needed"):
        ImageDatalist(folder)
    with pytest.raises(FileNotFoundError, match="holds no volume"):
        ImageDatalist(tmp_path / "missing")
