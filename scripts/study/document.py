"""A document that is written twice: as Markdown, and as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from med3d_components.report import embed, write_page
from med3d_components.utils import atomic_path

__all__ = ["Document"]


class Document:
    """Headings, paragraphs, tables and pictures, in the order in which they are added.

    Args:
        title: plain text, as all that is added.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.markdown = [f"# {title}"]
        self.blocks: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        """Add a heading."""
        self.markdown.append(f"## {text}")
        self.blocks.append({"kind": "heading", "text": text})

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.markdown.append(text)
        self.blocks.append({"kind": "text", "text": text})

    def note(self, text: str) -> None:
        """Add a paragraph that is not to be overlooked."""
        self.markdown.append(f"**{text}**")
        self.blocks.append({"kind": "note", "text": text})

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table."""
        lines = [header, ["---"] * len(header), *rows]
        self.markdown.append("\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines))
        self.blocks.append({"kind": "table", "header": header, "rows": rows})

    def picture(self, path: Path, text: str) -> None:
        """Add a PNG that lies next to the document."""
        self.markdown.append(f"![{text}]({path.name})")
        self.blocks.append({"kind": "picture", "text": text, "source": embed(path.read_bytes(), "png")})

    def write(self, folder: Path, markdown: str, html: str) -> None:
        """Write both files."""
        with atomic_path(folder / markdown) as temporary:
            temporary.write_text("\n\n".join(self.markdown) + "\n", encoding="utf-8")
        write_page(folder / html, "document.html.j2", title=self.title, blocks=self.blocks)
