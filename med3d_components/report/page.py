"""Pages in one file each, without anything from outside: style, sorting and pictures are embedded."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from med3d_components import __version__
from med3d_components.utils import atomic_path

__all__ = ["embed", "short", "write_page"]

TEMPLATES = Path(__file__).with_name("templates")
MOST = 60
"""Cases that a list names, and that are shown unasked."""


def write_page(path: str | os.PathLike[str], template: str, **content: Any) -> None:
    """Fill in a template, and write the page, atomically.

    All text is escaped. The page's policy lets a browser run its one script, which sorts tables, and nothing else:
    whatever a name may hold, and wherever it may stand.

    Args:
        path: to write.
        template: one of ``templates/``, which extends ``base.html.j2``.
        content: what the template asks for; ``title`` is needed by all.

    Raises:
        jinja2.UndefinedError: if the template asks for something else.

    Example:
        >>> table = {"kind": "table", "header": ["case"], "rows": [["<script>"]]}
        >>> write_page("report.html", "document.html.j2", title="Cases", blocks=[table])
        >>> "<td>&lt;script&gt;</td>" in Path("report.html").read_text(encoding="utf-8")
        True
    """
    page = _environment().get_template(template).render(**content)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def embed(picture: bytes, kind: str) -> str:
    """Return the address of a picture that is part of the page.

    Args:
        picture: content of its file.
        kind: "png" or "jpeg".

    Example:
        >>> embed(b"...", "png")
        'data:image/png;base64,Li4u'
    """
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def short(number: float) -> str:
    """Return a number with three digits, or the whole of a large one.

    Example:
        >>> short(0.01234), short(7.5), short(123456)
        ('0.0123', '7.5', '123456')
    """
    return f"{number:.0f}" if abs(number) >= 999.5 else f"{number:.3g}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    environment.globals.update(
        version=__version__,
        MOST=MOST,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        letters=embed((TEMPLATES / "letters.svg").read_bytes(), "svg+xml"),
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
    )
    return environment
