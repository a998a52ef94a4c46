"""What ``monai.bundle.load`` returns with its defaults, which take the network of train.json."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, load

from tests.bundles.workflow import copy_bundle, leave_model, read_config, unpack_model
from tests.conftest import BUNDLES

CASES: list[tuple[str, dict[str, str]]] = [
    (bundle.name, changes)
    for bundle in BUNDLES
    for changes in ({}, {"architecture": "resnet"}, {"architecture": "genesis"})
    if changes.items() != {("architecture", read_config(bundle, "train").get("architecture"))}
    and changes.keys() <= read_config(bundle, "train").keys()
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_packed_model_loads_by_default_as_the_network_that_infers(
    name: str, changes: dict[str, str], narrow_resnets: None, varied_data: Path, tmp_path: Path
) -> None:
    trained = copy_bundle(name, tmp_path / "trained")
    leave_model(trained, varied_data, **changes)
    bundle = unpack_model(trained, tmp_path)

    loaded = load(name, bundle_dir=str(bundle.parent))

    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert not loaded.training
    image = torch.rand(1, 1, 32, 28, 24)
    with torch.no_grad():
        for method in ("forward", "locate") if hasattr(network, "locate") else ("forward",):
            assert torch.equal(getattr(loaded, method)(image), getattr(network, method)(image))
