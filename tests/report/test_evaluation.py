from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from med3d_components.report import write_evaluation_page
from med3d_components.utils import write_json, write_table
from tests.report.test_page import Tags


def evaluate(folder: Path) -> str:
    scores = {
        "val_mean_dice": 0.81234,
        "tumour": None,
        "lesion_detection": 0.5,
        "lesion_detection/lesions/liver/tumour": 12,
        "lesion_detection/sensitivity/liver/tumour": 0.5,
        "lesion_detection/lesions/liver/cyst": 0,
        "lesion_detection/sensitivity/liver/cyst": None,
        "lits/lesion_recall": 0.25,
    }
    write_json(folder / "evaluation.json", scores)
    write_table(folder / "cases.csv", [{"case": "1.50", "set": "new", "tumour": 0.812345, "lesions": 3, "ece": ""}])
    write_table(folder / "cases_lits.csv", [{"case": "<script>", "rvd": 0.5}])
    write_table(folder / "calibration.csv", [{"confidence from": 0.9333, "to": 1.0, "voxels": 123456}])
    imsave(folder / "overlays.png", np.zeros((4, 4, 3)))
    return write_evaluation_page(folder).read_text(encoding="utf-8")


def test_the_page_has_all_scores_tables_and_pictures(tmp_path: Path) -> None:
    page = evaluate(tmp_path)
    assert "<td>val_mean_dice</td><td>0.812</td>" in page
    assert "<td>tumour</td><td></td>" in page
    assert "<td>lits/lesion_recall</td><td>0.25</td>" in page
    assert "<td>liver/tumour</td><td>12</td><td>0.5</td>" in page
    assert "<td>liver/cyst</td><td>0</td><td></td>" in page
    assert "<td>0.933</td><td>1</td><td>123456</td>" in page
    assert "<td>1.50</td><td>new</td><td>0.812</td><td>3</td><td></td>" in page  # a name stays as it is
    assert "<td>&lt;script&gt;</td>" in page
    tags = Tags(page)
    (source,) = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert source
    assert source.startswith("data:image/png")
    assert tags.text.count("matched one to one") == 1


def test_without_an_evaluation_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"evaluation\.json"):
        write_evaluation_page(tmp_path)
    assert not list(tmp_path.iterdir())
