"""Fixtures of the runs on a device."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bundles.workflow import write_data
from tests.device.workflow import OnDevice, bundle_on


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what each bundle trains on."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: Path) -> OnDevice:
    """Return a bundle that was trained on a device."""
    device, name = request.param
    bundle = bundle_on(device, name, tmp_path_factory.mktemp(device), data)
    bundle.train()
    return bundle


@pytest.fixture(scope="module")
def settled(trained: OnDevice) -> OnDevice:
    """Return a bundle that was trained on a device, whose model tells voxels apart."""
    trained.settle()
    return trained


@pytest.fixture
def copy(settled: OnDevice, tmp_path: Path) -> OnDevice:
    """Return a copy of it, which runs may change."""
    return settled._replace(bundle=Path(shutil.copytree(settled.bundle, tmp_path / settled.bundle.name)))
