"""A document that is written twice: as Markdown, and as one HTML file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from med3d_components.utils import atomic_path

__all__ = ["Document"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: left }
th { background: #f2f2f2 }
img { max-width: 100% }
.scroll { overflow-x: auto }
.note { border-left: .3em solid #c60; background: #fff6ec; padding: .5em 1em }
"""


class Document:
    """Headings, paragraphs, tables and pictures, in the order in which they are added.

    Args:
        title: plain text, as all that is added.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.markdown = [f"# {title}"]
        self.html = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """Add a heading."""
        self.markdown.append(f"## {text}")
        self.html.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.markdown.append(text)
        self.html.append(f"<p>{escape(text)}</p>")

    def note(self, text: str) -> None:
        """Add a paragraph that is not to be overlooked."""
        self.markdown.append(f"**{text}**")
        self.html.append(f'<p class="note">{escape(text)}</p>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table."""
        lines = [header, ["---"] * len(header), *rows]
        self.markdown.append("\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines))
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        content = "\n".join(f"<tr>{row}</tr>" for row in (head, *body))
        self.html.append(f'<div class="scroll"><table>\n{content}\n</table></div>')

    def picture(self, path: Path, text: str) -> None:
        """Add a PNG that lies next to the document."""
        self.markdown.append(f"![{text}]({path.name})")
        data = base64.b64encode(path.read_bytes()).decode()
        self.html.append(f'<p><img alt="{escape(text)}" src="data:image/png;base64,{data}"></p>')

    def write(self, folder: Path, markdown: str, html: str) -> None:
        """Write both files."""
        page = (
            '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
            + "\n".join(self.html)
            + "\n</body>\n</html>\n"
        )
        for name, content in ((markdown, "\n\n".join(self.markdown) + "\n"), (html, page)):
            with atomic_path(folder / name) as temporary:
                temporary.write_text(content, encoding="utf-8")
