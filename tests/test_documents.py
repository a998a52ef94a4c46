"""The examples of the documents: Python is run, and commands have options that there are."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.__main__ import COMMANDS as PACKAGE_COMMANDS
from med3d_components.utils.help import read_declaration
from med3d_components.utils.option_help import option_names
from med3d_components.utils.options import RENAMED
from tests.conftest import ROOT


def test_the_recipe_of_the_demonstration_normalises_the_voxels_above_zero_and_keeps_label_values(
    tmp_path: Path,
) -> None:
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "medicalnet_demonstration.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, object] = {}
    exec(example, names)
    image, label = np.zeros((12, 20, 10), np.float32), np.zeros((12, 20, 10), np.uint8)
    image[2:10, 3:17, 2:8] = np.random.default_rng(0).uniform(50, 150, size=(8, 14, 6))
    label[4:9, 6:12, 3:7] = 2
    paths = {name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "label")}
    for name, volume in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1.0, 3.0, 1.0])), paths[name])
    out = names["preprocessing"](paths)  # type: ignore[operator]
    assert out["image"].shape == out["label"].shape == (1, 56, 448, 448)
    above = out["image"].as_tensor()
    above = above[above > above.min()]  # the background, which was 0, is the lowest value
    assert float(above.mean()) == pytest.approx(0, abs=1e-4)
    assert float(above.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert out["label"].unique().tolist() == [0, 2]


def commands(text: str) -> list[list[str]]:
    """Return the commands of a document that run a bundle or a script, in words."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    runs = {"monai.bundle", "med3d_components"}
    return [line for line in words if runs & set(line) or any(word.startswith("scripts/") for word in line)]


def options_there_are(words: list[str]) -> set[str] | None:
    """Return the options of a command's program, None where it takes others too or is MONAI's own."""
    if "monai.bundle" in words:
        configs = re.findall(r"bundles/\w+/configs/\w+\.json", words[words.index("--config_file") + 1])
        names = [option_names(json.loads((ROOT / path).read_text(encoding="utf-8"))) for path in configs]
        return {"config_file"}.union(*names) if names else None
    if "med3d_components" in words:
        first, second = words[words.index("med3d_components") + 1 :][:2]
        return declared_options(PACKAGE_COMMANDS.get(first) or PACKAGE_COMMANDS[f"{first} {second}"])
    script = next(word for word in words if word.startswith("scripts/"))
    alone = re.search(r'run_commands\("([\w.:]+)"', (ROOT / script).read_text(encoding="utf-8"))
    command = (
        runpy.run_path(str(ROOT / script))["COMMANDS"][words[words.index(script) + 1]] if alone is None else alone[1]
    )
    return declared_options(command)


def declared_options(command: str) -> set[str] | None:
    declared = read_declaration(command)
    return {"cpu", *(option.name for option in declared.options)} if declared.others is None else None


DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/docs/*.md"), *ROOT.glob("apps/*/*.md")]
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_have_the_options_that_there_are(path: Path) -> None:
    for words in commands(path.read_text(encoding="utf-8")):
        known = options_there_are(words)
        programs = ("monai.bundle", "med3d_components")
        program = next(index for index, word in enumerate(words) if word in programs or word.endswith(".py"))
        typed = {word[2:].partition("=")[0] for word in words[program:] if word.startswith("--")}
        assert typed <= known if known else not typed & RENAMED.keys(), words


def test_an_option_that_is_gone_is_found_in_a_document() -> None:
    text = (
        "```bash\npython -m monai.bundle run training --config_file bundles/lung_segmentation/configs/train.json \\\n"
    )
    (words,) = commands(text + "    --region 96\n```")
    assert "patch_size" in (options_there_are(words) or ())
    assert "region" not in (options_there_are(words) or ())
