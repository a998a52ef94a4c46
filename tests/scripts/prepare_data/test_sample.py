from __future__ import annotations

import json

import nibabel as nib
import pytest

from med3d_components.data.domains import DOMAINS_3DSEG8
from tests.scripts.prepare_data.conftest import contents, last_line


def test_sample_writes_all_eight_domains_and_says_that_they_are_synthetic(run, tmp_path):
    code, out, _ = run("sample", "--out", tmp_path, "--cases", 2, "--seed", 3)
    assert code == 0
    assert "synthetic" in out
    assert "nothing about medicine" in out
    assert {path.name for path in tmp_path.iterdir()} == set(DOMAINS_3DSEG8)
    for name, facts in DOMAINS_3DSEG8.items():
        dataset = json.loads((tmp_path / name / "dataset.json").read_text(encoding="utf-8"))
        assert dataset["synthetic"] == {"seed": 3, "cases": 2, "version": 2}
        assert list(dataset["labels"].values()) == list(facts.classes)
        image = nib.load(tmp_path / name / dataset["training"][1]["image"])
        assert image.ndim == (4 if len(facts.channels) > 1 else 3)

    before = contents(tmp_path)
    code, out, _ = run("sample", "--out", tmp_path, "--cases", 2, "--seed", 3)
    assert code == 0
    assert out.count("is already there") == 8
    assert contents(tmp_path) == before

    code, _, err = run("sample", "--out", tmp_path, "--cases", 3, "--seed", 3)
    assert code == 1
    assert last_line(err).startswith("error: ")
    assert "already holds other data; move it away" in err
    assert contents(tmp_path) == before


def test_a_wrong_option_value_is_one_line(run, tmp_path):
    code, _, err = run("sample", "--out", tmp_path, "--cases", "many")
    assert (code, err) == (1, "error: cases is 'many', but must be a positive integer.\n")


@pytest.mark.parametrize(
    ("of", "folder"),
    [("lungs", "Synthetic_Lungs"), ("livers", "Synthetic_Livers"), ("nodules", "Synthetic_Nodules")],
)
def test_a_sample_of_one_organ_is_one_folder_and_written_once(run, tmp_path, of, folder):
    arguments = ("sample", "--out", tmp_path, "--of", of, "--cases", 1, "--seed", 2)
    code, out, _ = run(*arguments)
    assert code == 0
    assert "synthetic" in out
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    dataset = json.loads((tmp_path / folder / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["synthetic"] == {"seed": 2, "cases": 1, "version": 2}
    before = contents(tmp_path)
    code, out, _ = run(*arguments)
    assert code == 0
    assert "is already there" in out
    assert contents(tmp_path) == before


def test_sample_of_something_else_is_one_line(run, tmp_path):
    code, _, err = run("sample", "--out", tmp_path, "--of", "hearts")
    assert (code, err) == (1, "error: of is 'hearts', but must be one of domains, lungs, livers, nodules.\n")


def test_livers_are_16_unless_told_otherwise(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("scripts.commands.prepare_data.write_sample", lambda *arguments: asked.append(arguments))
    assert run("sample", "--out", tmp_path, "--of", "livers")[0] == 0
    assert asked == [(tmp_path / "Synthetic_Livers", 16, 0)]
