from __future__ import annotations

from pathlib import Path

from scripts.study.document import Document


def test_text_is_escaped_in_html_and_a_bar_does_not_break_a_markdown_table(tmp_path: Path) -> None:
    document = Document("a < b")
    document.text("1 & 2")
    document.table(("x", "y"), [["a|b", "<i>"]])
    document.write(tmp_path, "a.md", "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<h1>a &lt; b</h1>" in page
    assert "<p>1 &amp; 2</p>" in page
    assert "<td>a|b</td><td>&lt;i&gt;</td>" in page
    assert (tmp_path / "a.md").read_text(encoding="utf-8").splitlines()[-1] == "| a/b | <i> |"
