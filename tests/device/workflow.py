"""Runs of bundles on a device, emulated or real, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from tests.bundles.workflow import configs, copy_bundle, read_table, settle, source_of
from tests.conftest import ROOT

RUN_BUNDLE = Path(__file__).with_name("run_bundle.py")
PATIENCE_S = 300
"""For one run, of seconds. The first one builds the emulated device, and others wait for it."""

COST = {"seconds per scan", "memory MB per scan", "GPU memory MB per scan"}
DEVICES = {"egpu": pytest.mark.device, "cuda": pytest.mark.gpu}
DEVICE_ERROR = r"found at least two devices|can't convert \w+:0 device type tensor to numpy"

# Where the volumes are too small for a bundle's own values.
SMALL = {
    ("genesis_pretraining", "train"): ("--patch_size", "[24,24,16]", "--intensity_range", "[0,400]", "--max_tissue", 1),
    ("liver_ct_fine_segmentation", "train"): ("--patch_size", "[24,24,24]"),
    ("genesis_pretraining", "evaluate"): ("--max_tissue", 1, "--cubes_per_scan", 1),
}


class OnDevice(NamedTuple):
    """A bundle that is trained on a device, by the name of the device, and the folder of all data."""

    device: str
    bundle: Path
    data: Path

    def train(self, *options: object, files: tuple[str, ...] = ("train", "smoke"), **how: Any) -> str:
        """Train for one epoch, unless the options say otherwise."""
        options = ("--dataset_dir", source_of(self.bundle, self.data, "train"), "--epochs", 1, *options)
        options = (*options, *SMALL.get((self.bundle.name, "train"), ()))
        return self.run("training", "--config_file", configs(self.bundle, *files), *options, **how)

    def evaluate(self, *options: object, files: tuple[str, ...] = ("train", "evaluate"), **how: Any) -> str:
        options = ("--dataset_dir", source_of(self.bundle, self.data, "train"), "--num_workers", 0, *options)
        options = (*options, *SMALL.get((self.bundle.name, "evaluate"), ()))
        return self.run("evaluating", "--config_file", configs(self.bundle, *files), *options, **how)

    def infer(self, *options: object, **how: Any) -> str:
        """Infer on one scan, or on the nodules of all."""
        source = source_of(self.bundle, self.data, "inference")
        source = source / "case_0.nii.gz" if source.name == "imagesTr" else source
        files = configs(self.bundle, "inference")
        return self.run("inference", "--config_file", files, "--dataset_dir", source, *options, **how)

    def run(self, *arguments: object, given: str = "", fails: bool = False) -> str:
        """Run the bundle, all of whose convolutions must be on the device, and return what it printed.

        Args:
            *arguments: of ``monai.bundle run``.
            given: the device as the command line has it, instead of a ``torch.device``.
            fails: whether the run must fail.
        """
        option = ("--device", given or f"$torch.device('{self.device}')")
        with tempfile.TemporaryDirectory() as folder:
            note = Path(folder) / "note.json"
            command = [sys.executable, RUN_BUNDLE, note, self.device, "run", *arguments, *option]
            output = run_alone(command, fails)
            places = Counter({(ours, theirs): n for ours, theirs, n in json.loads(note.read_text(encoding="utf-8"))})
        if not fails:
            assert set(places) == {(self.device, self.device)}, f"The convolutions ran elsewhere: {places}"
        return output

    def on_cpu(self) -> OnDevice:
        """Return the same bundle for a run on the CPU."""
        return self._replace(device="cpu")

    def settle(self) -> None:
        """Let the trained model tell voxels apart, which one epoch does not teach it, see :func:`settle`."""
        parser = ConfigParser(ConfigParser.load_config_file(self.bundle / "configs" / "inference.json"))
        parser["bundle_root"] = str(self.bundle)
        path = self.bundle / "models" / "model.pt"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", sys.path.copy())  # a config looks there for its bundle
            network: nn.Module = parser.get_parsed_content("network_def")
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            scan = {"image": str(self.data / "Scans" / "imagesTr" / "case_0.nii.gz")}
            settle(network, parser.get_parsed_content("preprocessing")(scan)["image"].as_tensor()[None])
        torch.save(network.state_dict(), path)


def run_alone(command: list[object], fails: bool = False) -> str:
    """Run Python in a process of its own, and return what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # ninja is there
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "PATH": path}
    environment["NVIDIA_TF32_OVERRIDE"] = "0"  # float32 is compared with that of a CPU
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=PATIENCE_S,
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def on_each_device(*names: str) -> pytest.MarkDecorator:
    """Give a test bundles that were trained on each device; the tests of one bundle run in one process."""
    return pytest.mark.parametrize(
        "trained",
        [
            pytest.param((device, name), id=f"{device}-{name}", marks=[mark, pytest.mark.xdist_group(name)])
            for device, mark in DEVICES.items()
            for name in names
        ],
        indirect=True,
    )


def places_of(path: Path) -> set[str]:
    """Return the types of the devices that the tensors of a checkpoint lay on when it was saved."""
    found: set[str] = set()

    def note(storage: Any, location: str) -> Any:
        found.add(location.partition(":")[0])
        return storage

    torch.load(path, map_location=note, weights_only=True)
    return found


def compare_results(found: Path, expected: Path) -> None:
    """Compare what two inferences in float32 wrote: labels, restored scans, probabilities."""
    volumes = sorted(path.name for path in expected.glob("*.nii.gz"))
    assert sorted(path.name for path in found.glob("*.nii.gz")) == volumes
    for name in volumes:
        ours, theirs = (np.asarray(nib.load(folder / name).dataobj) for folder in (found, expected))
        assert theirs.min() < theirs.max()
        if name.endswith("_seg.nii.gz"):
            assert (ours != theirs).mean() < 0.002
        else:
            np.testing.assert_allclose(ours, theirs, atol=0.005 * np.ptp(theirs))
    tables = sorted(path.name for path in expected.glob("predictions.csv"))
    assert volumes or tables
    for name in tables:
        ours, theirs = (read_table(folder / name) for folder in (found, expected))
        assert [row["case"] for row in ours] == [row["case"] for row in theirs]
        columns = [column for column in theirs[0] if column.startswith("probability")]
        for column in columns:
            assert [float(row[column]) for row in ours] == pytest.approx(
                [float(row[column]) for row in theirs], abs=0.005
            )


def compare_scores(found: Path, expected: Path) -> None:
    """Compare two evaluations in float32."""
    ours, theirs = (
        json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) for folder in (found, expected)
    )
    assert list(ours) == list(theirs)
    for name, score in theirs.items():
        if name in COST:  # of each run its own
            continue
        assert ours[name] == (None if score is None else pytest.approx(score, abs=0.005, rel=0.02)), name
    assert any(score for score in theirs.values())


def bundle_on(device: str, name: str, folder: Path, data: Path) -> OnDevice:
    """Return a fresh copy of a bundle for a device."""
    return OnDevice(device, copy_bundle(name, folder), data)
