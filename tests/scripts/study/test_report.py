from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scripts.study.cells import run_cells
from scripts.study.report import write_report
from tests.bundles.workflow import names, read_table
from tests.scripts.study.conftest import MakeStudy, Stub, make_cell

CURVES = {"scratch": [(0.2, 0.5), (0.3, 0.4)], "med3d": [(0.5, 0.6), (0.6, 0.7)]}


class Links(HTMLParser):
    """Collect whatever a browser would fetch, and check that tags are closed; the script is tested with its page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        assert tag not in ("link", "iframe")
        self.found += [str(value) for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_is_one_file_that_holds_its_pictures(make_study: MakeStudy) -> None:
    out = make_study(CURVES, shares=(0.25, 1))
    write_report(out)
    assert names(out) == {"cells", "study.json", "study.csv", "study.md", "curves.png", "shares.png", "report.html"}
    page = (out / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.open == []
    assert len(links.found) == 2
    assert all(link.startswith("data:image/png;base64,iVBOR") for link in links.found)
    assert not re.search(r"https?:", page)
    assert "url(" not in page
    markdown = (out / "study.md").read_text(encoding="utf-8")
    for text in (markdown, page):
        for word in ("not for clinical use", "TFS, paper", "71.30", "split_seed 0", "batch_size", "torch 2", "med3d"):
            assert word in text
        assert "SYNTHETIC" not in text
    assert "![Learning curves" in markdown
    rows = read_table(out / "study.csv")
    assert len(rows) == 8
    assert {(row["init"], row["seed"], row["share"]) for row in rows} >= {("med3d", "1", "0.25"), ("scratch", "0", "1")}
    assert rows[0]["metric"] == "val_mean_dice"


def test_synthetic_data_and_what_failed_are_named(make_study: MakeStudy) -> None:
    out = make_study(CURVES, bundle="liver_ct_coarse_segmentation", synthetic=True)
    stub = Stub()
    stub.code = 1
    run_cells([make_cell("<late>")], out, stub)
    write_report(out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC data: Lungs, drawn" in page
    assert "4 finished, 1 not" in page
    assert "R10_&lt;late&gt;_share1_seed0</td><td>error: no luck" in page
    assert "seen before" in page
    assert "TFS" not in page


def test_the_domains_of_pre_trainings_are_listed(make_study: MakeStudy) -> None:
    out = make_study(CURVES)
    cell = make_cell("pretraining")
    facts = {**cell.facts, "role": "pre-training", "domains": ["Task09_Spleen", "Task03_Liver"]}
    run_cells([replace(cell, facts=facts)], out, Stub())
    write_report(out)
    assert "| 0 | 2 | Task09_Spleen, Task03_Liver | 80 |" in (out / "study.md").read_text(encoding="utf-8")


def test_a_report_is_written_anew_and_needs_a_study_with_a_finished_cell(make_study: MakeStudy, tmp_path: Path) -> None:
    out = make_study(CURVES)
    write_report(out)
    before = (out / "study.md").read_text(encoding="utf-8")
    write_report(out)
    assert (out / "study.md").read_text(encoding="utf-8") == before
    with pytest.raises(FileNotFoundError, match=r"study\.json does not exist; give the folder of a study by --out"):
        write_report(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "study.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="has no finished training yet"):
        write_report(tmp_path / "empty")
