from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from med3d_components.report import embed, short, write_page

NAMES = ("<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "a\"onmouseover='alert(1)", "{{ 7 * 7 }}")


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def write(path: Path, *names: str) -> str:
    blocks = [
        {"kind": "heading", "text": names[0]},
        {"kind": "text", "text": names[0]},
        {"kind": "note", "text": names[0]},
        {"kind": "table", "header": names, "rows": [names]},
        {"kind": "picture", "text": names[0], "source": embed(b"...", "png")},
    ]
    write_page(path, "document.html.j2", title=names[0], blocks=blocks)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_becomes_a_part_of_the_page(name: str, tmp_path: Path) -> None:
    plain, found = Tags(write(tmp_path / "plain.html", "plain")), Tags(write(tmp_path / "page.html", name))
    assert [(tag, sorted(attributes)) for tag, attributes in found.found] == [
        (tag, sorted(attributes)) for tag, attributes in plain.found
    ]
    assert found.text == plain.text.replace("plain", name)
    assert [attributes["alt"] for tag, attributes in found.found if tag == "img"] == [name]


def test_the_page_asks_for_nothing_and_its_policy_lets_only_its_own_script_run(tmp_path: Path) -> None:
    page = write(tmp_path / "page.html", "a")
    tags = Tags(page).found
    (policy,) = [each["content"] for tag, each in tags if tag == "meta" and "http-equiv" in each]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    addresses = [value for _, each in tags for key, value in each.items() if key in ("src", "href", "srcset", "data")]
    assert addresses == ["data:image/png;base64,Li4u"]
    assert not re.search(r"url\(|@import|https?:", page)


def test_a_picture_is_embedded_as_it_is(tmp_path: Path) -> None:
    content = bytes(range(256))
    assert base64.b64decode(embed(content, "jpeg").removeprefix("data:image/jpeg;base64,")) == content


def test_what_a_template_lacks_is_an_error_and_leaves_the_earlier_page(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    before = write(path, "a")
    with pytest.raises(UndefinedError, match="'blocks' is undefined"):
        write_page(path, "document.html.j2", title="b")
    assert path.read_text(encoding="utf-8") == before
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_equal_content_gives_equal_pages(tmp_path: Path) -> None:
    assert write(tmp_path / "a.html", "a") == write(tmp_path / "b.html", "a")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (0.012345, "0.0123"), (-999.6, "-1000"), (1234.5, "1234"), (12, "12")]
)
def test_numbers_have_three_digits_or_are_whole(number: float, text: str) -> None:
    assert short(number) == text
