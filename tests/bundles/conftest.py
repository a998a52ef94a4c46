"""Fixtures of the bundles' tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from med3d_components.networks import resnet
from tests.bundles.workflow import write_data


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a workflow adds to sys.path, since a config looks there for its bundle."""
    monkeypatch.setattr(sys, "path", sys.path.copy())


@pytest.fixture(scope="module")
def narrow_resnets() -> Iterator[None]:
    """Make the ResNets narrow: files are small and exports fast, and do with a layer what they do with a wide one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "WIDTHS", (4, 8, 12, 16))
        yield


@pytest.fixture(scope="module")
def varied_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what each bundle trains on, see write_data."""
    return write_data(tmp_path_factory.mktemp("data"))
