from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from med3d_components.networks.resnet import DEPTHS
from med3d_components.weights.cards import CARDS, find_card
from tests.conftest import BUNDLES


def test_every_card_states_licence_data_and_expected_input():
    for card in CARDS:
        assert card.licence
        assert card.training_data
        assert card.preprocessing
        assert card.url.startswith("https://")


def test_files_of_a_family_are_distinct():
    assert len({(card.source, card.filename) for card in CARDS}) == len(CARDS)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_has_medicalnet_weights_of_the_networks_default_shortcut(depth):
    card = find_card("medicalnet", depth)
    assert card.url == (
        f"https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet{depth}/resolve/main/resnet_{depth}.pth"
    )
    assert card.shortcut_type == DEPTHS[depth].shortcut_type
    assert card.licence == "MIT"


def test_unpublished_facts_are_not_made_up():
    assert "not published" in find_card("medicalnet_23", 10).training_data
    known = [(card.source, card.depth) for card in CARDS if card.size or card.sha256]
    assert known == [("medicalnet", 50)]
    assert "Google Drive" in find_card("medicalnet", 50).note


def test_shortcuts_of_the_two_kinetics_generations_differ():
    assert find_card("kinetics_2018", 18).shortcut_type == "A"
    assert find_card("kinetics_2020", 18).shortcut_type == "B"
    assert find_card("kinetics_2018", 18).url == find_card("kinetics_2018", 18).page


def test_a_depth_nobody_published_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="has no weights of depth 10; it has the depths 18, 34, 50, 101, 152, 200"):
        find_card("kinetics_2018", 10)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_what_a_bundle_can_download_is_on_a_card(bundle: Path) -> None:
    for entry in ConfigParser.load_config_file(bundle / "large_files.yml")["large_files"]:
        card = next(card for card in CARDS if card.url == entry["url"])
        assert entry == {
            "path": f"pretrained/{card.filename}",
            "url": card.url,
            "hash_val": card.sha256,
            "hash_type": "sha256",
        }
