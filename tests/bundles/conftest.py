"""Fixtures of the bundles' tests."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a workflow adds to sys.path, since a config looks there for its bundle."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
