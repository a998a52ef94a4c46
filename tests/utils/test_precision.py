from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from med3d_components.utils.precision import HIDING, Precision, choose_precision

CHOOSE = "from med3d_components.utils.precision import choose_precision as c; print(*c())"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in HIDING:
        monkeypatch.delenv(variable, raising=False)
    choose_precision.cache_clear()
    yield
    choose_precision.cache_clear()


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make this an x86 processor with AVX512_BF16 and without AMX."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return monkeypatch


def test_auto_is_bf16_where_the_processor_has_the_instructions(processor: pytest.MonkeyPatch) -> None:
    assert choose_precision() == Precision("bf16", "the processor has AVX512_BF16 or AMX instructions")
    processor.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    choose_precision.cache_clear()
    assert choose_precision() == Precision("float32", "the processor has no AVX512_BF16 or AMX instructions")
    processor.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    choose_precision.cache_clear()
    assert choose_precision().name == "bf16"


@pytest.mark.parametrize("supported", [True, False])
def test_an_arm_processor_is_asked_for_its_own_instructions(supported: bool, processor: pytest.MonkeyPatch) -> None:
    processor.setattr("platform.machine", lambda: "aarch64")
    processor.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert choose_precision().name == ("bf16" if supported else "float32")


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", "float32"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", "float32"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", "bf16"),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", "bf16"),
        ("ATEN_CPU_CAPABILITY", "avx2", "float32"),
        ("ATEN_CPU_CAPABILITY", "default", "float32"),
        ("ATEN_CPU_CAPABILITY", "avx512_bf16", "bf16"),
    ],
)
def test_a_variable_that_hides_the_instructions_counts(
    variable: str, value: str, name: str, processor: pytest.MonkeyPatch
) -> None:
    processor.setenv(variable, value)
    chosen = choose_precision()
    assert chosen.name == name
    assert (variable in chosen.reason) == (name == "float32")


def test_a_process_with_the_variables_of_an_older_machine_chooses_float32() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CHOOSE], env=environment, cwd=root, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.startswith("float32 ")


@pytest.mark.parametrize(("capability", "name"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16")])
def test_auto_on_a_gpu_goes_by_its_compute_capability(
    capability: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    chosen = choose_precision("auto", "cuda:0")
    assert chosen.name == name
    assert f"{capability[0]}.{capability[1]}" in chosen.reason


def test_auto_on_any_other_device_is_float32() -> None:
    assert choose_precision("auto", "mps").name == "float32"
    assert not choose_precision("bf16", "mps").warning


def test_emulated_bf16_is_given_with_a_warning_of_what_it_costs(processor: pytest.MonkeyPatch) -> None:
    assert not choose_precision("bf16").warning
    processor.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    choose_precision.cache_clear()
    chosen = choose_precision("bf16")
    assert chosen.name == "bf16"
    assert "no AVX512_BF16 or AMX instructions; bf16 is emulated there" in chosen.warning
    assert "40 times as long" in chosen.warning


def test_another_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="precision is 'bfloat16', but must be auto, bf16, fp16, float32"):
        choose_precision("bfloat16")
