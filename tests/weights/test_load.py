from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import torch
from monai.networks.nets.resnet import resnet10

from med3d_components.networks import DilatedResNet, Med3DNet
from med3d_components.weights import load_encoder
from tests.weights.conftest import assert_unchanged, constant_state, copy_of, prefixed, random_state, resnet, save

KINETICS = json.loads((Path(__file__).parents[1] / "golden" / "kinetics_keys.json").read_text("utf-8"))["nets"]

HEAD = {"weight": torch.ones(2, 512), "bias": torch.ones(2)}
LAYOUTS = {
    "our encoder.pt": (lambda t: {"state_dict": t.state_dict(), "settings": {**t.settings, "domains": ["a"]}}, ()),
    "our model.pt": (
        lambda t: {**prefixed(t.state_dict(), "encoder."), **prefixed(HEAD, "branches.Liver.")},
        ("branches.Liver.weight", "branches.Liver.bias"),
    ),
    "our last.pt": (lambda t: {"network": prefixed(t.state_dict(), "encoder."), "epoch": 3}, ()),
    "MONAI's CheckpointSaver": (lambda t: {"model": prefixed(t.state_dict(), "encoder."), "epoch": 3}, ()),
    "MedicalNet": (lambda t: {"state_dict": prefixed(t.state_dict(), "module.")}, ()),
    "MedicalNet with its demo head": (
        lambda t: {"state_dict": prefixed({**t.state_dict(), **prefixed(HEAD, "conv_seg.0.")}, "module.")},
        ("conv_seg.0.weight", "conv_seg.0.bias"),
    ),
    "MONAI ResNet": (lambda t: {**t.state_dict(), **prefixed(HEAD, "fc.")}, ("fc.weight", "fc.bias")),
    "without batch counters": (lambda t: {k: x for k, x in t.state_dict().items() if "num_batches" not in k}, ()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_completely_and_gives_equal_features(layout, teacher, student, tmp_path):
    content, dropped = LAYOUTS[layout]
    report = load_encoder(student, save(content(teacher), tmp_path / "file.pt"))
    assert report.share == 1
    assert report.dropped == dropped
    assert report.unexpected == ()
    assert all(adapted.startswith("prefix 'module.' taken off") for adapted in report.adapted)
    assert all("num_batches_tracked" in name for name in report.missing)
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(student(x), teacher(x), strict=True))


def test_the_old_file_format_of_torch_loads(teacher, student, tmp_path):
    torch.save({"state_dict": teacher.state_dict()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_encoder(student, str(tmp_path / "old.pth")).share == 1


def test_only_a_leading_module_is_stripped(student, tmp_path):
    state = {**student.state_dict(), "decoder.module.weight": torch.zeros(1)}
    path = save(prefixed(state, "module."), tmp_path / "file.pt")
    with pytest.raises(ValueError, match=r"unexpected: decoder \(1 entry\)"):
        load_encoder(student, path)


def test_the_encoder_of_a_larger_network_is_loaded(teacher, tmp_path):
    network = Med3DNet({"Liver": 2, "Spleen": 3}, depth=10)
    branches = copy_of(network.branches)
    load_encoder(network, save(teacher.state_dict(), tmp_path / "file.pt"))
    assert_unchanged(network.encoder, teacher.state_dict())
    assert_unchanged(network.branches, branches)


def test_the_report_is_logged_as_one_block(teacher, student, tmp_path, caplog):
    path = save({**teacher.state_dict(), **prefixed(HEAD, "fc.")}, tmp_path / "file.pt")
    with caplog.at_level(logging.INFO, "med3d_components.weights"):
        report = load_encoder(student, path)
    (record,) = caplog.records
    assert record.getMessage() == str(report)
    assert "100.0 % of the values, 72 entries" in str(report)
    assert re.search(r"dropped +fc \(2 entries\)", str(report))
    assert re.search(r"missing +none", str(report))
    assert f"sha256      {report.sha256}" in str(report)
    assert str(report.path) == path


@pytest.mark.parametrize("feed_forward", [False, True])
def test_a_monai_resnet_loads_and_its_shallow_features_are_equal(feed_forward, student, tmp_path):
    monai_net = resnet10(spatial_dims=3, n_input_channels=1, conv1_t_stride=2, feed_forward=feed_forward).eval()
    monai_net.load_state_dict(random_state(monai_net))
    report = load_encoder(student, save(monai_net.state_dict(), tmp_path / "monai.pt"))
    assert report.share == 1
    assert report.dropped == (("fc.weight", "fc.bias") if feed_forward else ())
    assert len(report.adapted) == 3
    assert "layer2.0.downsample.0.bias folded into layer2.0.downsample.1.running_mean" in report.adapted
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        layer1 = monai_net.layer1(monai_net.maxpool(monai_net.act(monai_net.bn1(monai_net.conv1(x)))))
        for actual, expected in zip(student(x)[1:3], (layer1, monai_net.layer2(layer1)), strict=True):
            torch.testing.assert_close(actual, expected)


def kinetics_file(net, path):
    state = constant_state(KINETICS[net])
    old = net.endswith("400")
    content = {"epoch": 200, "arch": "resnet", "state_dict": prefixed(state, "module.") if old else state}
    return save({**content, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, path), state


@pytest.mark.parametrize("net", KINETICS)
@pytest.mark.parametrize("prefix", ["", "kinetics:"])
def test_kinetics_files_load_with_their_stem_summed_over_rgb(net, prefix, tmp_path):
    path, state = kinetics_file(net, tmp_path / "kinetics.pth")
    depth, shortcut_type = re.match(r"r3d(\d+)_([AB])", net).groups()
    network = resnet(int(depth), shortcut_type)
    report = load_encoder(network, prefix + path)
    assert report.share == 1
    assert report.dropped == ("fc.weight", "fc.bias")
    *wrappers, stem = report.adapted
    assert [text.partition(" off ")[0] for text in wrappers] == ["prefix 'module.' taken"] * net.endswith("400")
    assert stem == "conv1.weight: RGB summed, spread over 1 channel(s)"
    torch.testing.assert_close(network.conv1.weight, state["conv1.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(
        network.layer4[-1].bn2.running_var, state[f"layer4.{len(network.layer4) - 1}.bn2.running_var"]
    )


def test_grey_input_gives_the_features_of_replicated_rgb(student, tmp_path):
    rgb = resnet(10, in_channels=3).eval()
    rgb.load_state_dict(random_state(rgb))
    path = save(rgb.state_dict(), tmp_path / "rgb.pt")
    load_encoder(student, path)
    two = resnet(10, in_channels=2).eval()
    load_encoder(two, path)
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = rgb(x.expand(-1, 3, -1, -1, -1))[-1]
        torch.testing.assert_close(student(x)[-1], expected)
        torch.testing.assert_close(two(x.expand(-1, 2, -1, -1, -1))[-1], expected)


FAILURES = {
    "other depth and shortcut": (
        lambda: resnet(18).state_dict(),
        r"the file holds a ResNet-18 with shortcut A .* but the network is a ResNet-10 with shortcut B .* "
        r"build the network with depth=18, shortcut_type='A'",
    ),
    "other dilations": (
        lambda: {"state_dict": resnet(10).state_dict(), "settings": {"depth": 10, "dilations": (2, 2)}},
        r"dilations 2 and 2, but .* dilations 2 and 4: build the network with dilations=\[2, 2\]",
    ),
    "a missing entry": (
        lambda: {k: x for k, x in resnet(10).state_dict().items() if k != "bn1.running_var"},
        r"99.9 % of the network's values match; missing: bn1 \(1 entry\)",
    ),
    "an unexpected entry": (
        lambda: {**resnet(10).state_dict(), "neck.weight": torch.zeros(3)},
        r"unexpected: neck \(1 entry\)",
    ),
    "another shape": (
        lambda: {**resnet(10).state_dict(), "bn1.weight": torch.zeros(32)},
        r"1 of another shape: bn1.weight \(32,\) instead of \(64,\)",
    ),
    "no ResNet": (lambda: {"down.0.weight": torch.zeros(3)}, r"0.0 % .* missing: conv1 .* unexpected: down"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(failure, student, tmp_path):
    content, message = FAILURES[failure]
    student.load_state_dict(random_state(student))
    before = copy_of(student)
    with pytest.raises(ValueError, match=f"does not fit, and the network is unchanged: .*{message}") as error:
        load_encoder(student, save(content(), tmp_path / "file.pt"))
    assert "\n" not in str(error.value)
    assert_unchanged(student, before)


def test_a_deeper_file_is_refused_although_it_has_all_entries(tmp_path):
    path = save(constant_state({k: x.shape for k, x in resnet(34).state_dict().items()}), tmp_path / "file.pt")
    with pytest.raises(ValueError, match=r"the file holds a ResNet-34 .* build the network with depth=34, or"):
        load_encoder(resnet(18), path)


def test_a_shortcut_that_differs_is_named(tmp_path):
    path = save(constant_state(KINETICS["r3d18_B_700"]), tmp_path / "file.pt")
    with pytest.raises(ValueError, match="build the network with shortcut_type='B', or"):
        load_encoder(resnet(18), path)


def test_a_preactivation_file_is_told_from_a_plain_one(tmp_path):
    with torch.device("meta"):
        shapes = {k: x.shape for k, x in DilatedResNet(200, preactivation=True).state_dict().items()}
        network = DilatedResNet(200)
    path = save(constant_state(shapes), tmp_path / "file.pt")
    with pytest.raises(
        ValueError, match=r"holds a pre-activation ResNet-200 .* build the network with preactivation=T"
    ):
        load_encoder(network, path)


def test_a_lower_share_accepts_and_reports_a_partial_match(teacher, student, tmp_path):
    state = {k: x for k, x in teacher.state_dict().items() if not k.startswith("layer1.")}
    path = save({**state, "neck.weight": torch.zeros(3)}, tmp_path / "file.pt")
    report = load_encoder(student, path, min_share=0.9)
    assert 0.9 < report.share < 1
    assert report.unexpected == ("neck.weight",)
    assert {name.split(".")[0] for name in report.missing} == {"layer1"}
    assert torch.equal(student.conv1.weight, teacher.conv1.weight)
    with pytest.raises(ValueError, match="does not fit"):
        load_encoder(student, path, min_share=0.999)


def test_a_lower_share_still_refuses_other_shapes(teacher, student, tmp_path):
    path = save({**teacher.state_dict(), "bn1.weight": torch.zeros(32)}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="another shape"):
        load_encoder(student, path, min_share=0.5)


def test_a_lower_share_reports_a_difference_in_settings(teacher, student, tmp_path):
    path = save({"state_dict": teacher.state_dict(), "settings": {"dilations": [2, 2]}}, tmp_path / "file.pt")
    (adapted,) = load_encoder(student, path, min_share=0.9).adapted
    assert "dilations 2 and 2" in adapted


@pytest.mark.parametrize("source", ["medicalnt", "", "none", "kinetics:nowhere.pth", "folder", "genesis"])
def test_an_unknown_source_is_refused_with_what_is_allowed(source, student, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        FileNotFoundError,
        match=r"neither an existing file nor one of medicalnet, medicalnet_23, kinetics:FILE, genesis:F",
    ):
        load_encoder(student, source)


def test_a_file_without_rgb_stem_is_no_kinetics_file(teacher, student, tmp_path):
    path = save(teacher.state_dict(), tmp_path / "file.pt")
    with pytest.raises(ValueError, match="is no Kinetics file, since it has no RGB stem"):
        load_encoder(student, f"kinetics:{path}")


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_outside_0_to_1_is_refused(share, student):
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        load_encoder(student, "medicalnet", min_share=share)


def test_a_network_without_encoder_is_refused():
    with pytest.raises(ValueError, match="A Linear has no DilatedResNet or GenesisEncoder as `encoder`"):
        load_encoder(torch.nn.Linear(2, 2), "medicalnet")
