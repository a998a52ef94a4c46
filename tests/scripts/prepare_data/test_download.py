from __future__ import annotations

import hashlib
import json
import tarfile

import numpy as np
import pytest
from monai.apps import DecathlonDataset

from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.prepare.decathlon import LabelledScan, write_domain
from tests.scripts.prepare_data.conftest import last_line

TASK = "Task09_Spleen"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Make a small archive of a task, with stray files, stand in for the public one; return where it is."""
    folder = tmp_path / "public" / TASK
    image = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    write_domain(folder, DOMAINS_3DSEG8[TASK], {"a": lambda: LabelledScan(image, image // 59, np.eye(4))}, "", {})
    (folder / "imagesTr" / "._a.nii.gz").write_bytes(b"stray")
    path = tmp_path / "public" / f"{TASK}.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, TASK)
    monkeypatch.setitem(DecathlonDataset.resource, TASK, path.as_uri())
    monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_msd_downloads_checks_unpacks_and_removes_stray_files(run, tmp_path, archive):
    code, out, err = run("msd", "--task", TASK, "--out", tmp_path / "data")
    assert code == 0, err
    assert "is ready" in out
    files = {p.relative_to(tmp_path / "data").as_posix() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    assert files == {
        f"{TASK}.tar",
        f"{TASK}/dataset.json",
        f"{TASK}/imagesTr/a.nii.gz",
        f"{TASK}/labelsTr/a.nii.gz",
        f"{TASK}/report/cases.csv",
        f"{TASK}/report/report.html",
    }


def test_msd_downloads_from_monais_table_with_its_md5(run, tmp_path, archive, monkeypatch):
    asked = []

    def download(url, filepath, hash_val, hash_type):
        asked.append((url, hash_val, hash_type))
        filepath.write_bytes(archive.read_bytes())

    monkeypatch.setattr("med3d_components.prepare.msd.download_url", download)
    assert run("msd", TASK, tmp_path / "data")[0] == 0
    assert asked == [(DecathlonDataset.resource[TASK], DecathlonDataset.md5[TASK], "md5")]
    assert run("msd", TASK, tmp_path / "data")[0] == 0
    assert len(asked) == 1, "what is there is not downloaded again"


def test_msd_refuses_a_damaged_archive(run, tmp_path, archive, monkeypatch):
    monkeypatch.setitem(DecathlonDataset.md5, TASK, "0" * 32)
    code, _, err = run("msd", TASK, tmp_path / "data")
    assert code == 1
    assert "is damaged (wrong md5); delete the archive and run again" in last_line(err)
    assert not list((tmp_path / "data").iterdir())


def test_msd_lists_the_allowed_tasks(run, tmp_path):
    code, _, err = run("msd", "Task9", tmp_path)
    assert code == 1
    assert err.startswith("error: There is no task 'Task9'; choose one of Task01_BrainTumour, ")
    assert err.count("\n") == 1


def test_msd_without_a_network_says_what_to_do_and_then_takes_the_archive_by_hand(run, tmp_path, archive, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(DecathlonDataset.resource, TASK, f"https://localhost:9/{TASK}.tar")  # nobody listens on port 9
        code, _, err = run("msd", TASK, tmp_path / "data")
        assert code == 1
        assert last_line(err).startswith("error: No download (")
        by_hand = tmp_path / "data" / f"{TASK}.tar"
        assert f"Get https://localhost:9/{TASK}.tar by hand, save it as {by_hand} and run again" in last_line(err)
        assert not list((tmp_path / "data").iterdir())
        by_hand.write_bytes(archive.read_bytes())
        assert run("msd", TASK, tmp_path / "data")[0] == 0
    assert (tmp_path / "data" / TASK / "dataset.json").is_file()


def test_msd_does_not_take_sample_data_or_half_a_task_for_the_real_one(run, tmp_path):
    (tmp_path / TASK).mkdir()
    code, _, err = run("msd", TASK, tmp_path)
    assert code == 1
    assert "has no dataset.json" in err
    (tmp_path / TASK / "dataset.json").write_text(json.dumps({"synthetic": {"seed": 0}}))
    code, _, err = run("msd", TASK, tmp_path)
    assert code == 1
    assert "holds synthetic sample data; choose another folder" in err
