"""In which floating-point format networks compute: decided here, by what the device does natively."""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import NamedTuple

import torch

__all__ = ["PRECISIONS", "Precision", "choose_precision"]

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}

HIDING = {
    "ATEN_CPU_CAPABILITY": {"default", "avx2", "avx512"},
    "ONEDNN_MAX_CPU_ISA": {"sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni"},
}
"""Environment variables of torch and oneDNN, and those of their values that leave the bf16 instructions unused."""

SLOW = {
    "bf16": "bf16 is emulated there: expect a training step to take about 40 times as long as float32, and inference "
    "about 20 times",
    "fp16": "fp16 is emulated there: expect it to take several times as long as float32",
}


class Precision(NamedTuple):
    """A floating-point format, why it was chosen, and a warning where it is a bad choice, else empty."""

    name: str
    reason: str
    warning: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that convolutions and products compute in."""
        return PRECISIONS[self.name]


@cache
def choose_precision(precision: str = "auto", device: torch.device | str = "cpu") -> Precision:
    """Choose the format for a device; the same machine gets the same one each time.

    ``auto`` is bf16 on a CPU that has instructions for it (AVX512_BF16, AMX, or Arm's BF16) which no environment
    variable hides, and on a GPU of compute capability 8.0 or more; fp16 on an older GPU; float32 everywhere else.

    Args:
        precision: auto, bf16, fp16 or float32.
        device: that the network runs on, also as text.

    Raises:
        ValueError: for any other precision.

    Example:
        >>> choose_precision("float32").dtype
        torch.float32
    """
    device = torch.device(device)
    native, reason = _native_formats(device)
    if precision == "auto":
        return Precision(native[0], reason)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, but must be auto, {', '.join(PRECISIONS)}.")
    warning = "" if precision in native else f"--precision {precision}, but {reason}; {SLOW[precision]}."
    return Precision(precision, "as asked for", warning)


def _native_formats(device: torch.device) -> tuple[tuple[str, ...], str]:
    """Return the formats that a device computes in natively, the best one first, and the reason for that."""
    if device.type == "cpu":
        return _of_processor()
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return ("bf16", "fp16", "float32"), f"the GPU's compute capability is {major}.{minor}"
        return ("fp16", "float32"), f"the GPU's compute capability is {major}.{minor}, and bf16 needs 8.0"
    # What other devices do with half formats has not been measured; none is called emulated.
    return ("float32", "bf16", "fp16"), f"nothing is known of bf16 on {device.type}"


def _of_processor() -> tuple[tuple[str, ...], str]:
    if platform.machine().lower() in ("arm64", "aarch64"):
        native, which = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()), "BF16"
    else:
        # `_is_mkldnn_bf16_supported` is true of AVX-512 without bf16 as well.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        which = "AVX512_BF16 or AMX"
    if not native:
        return ("float32",), f"the processor has no {which} instructions"
    for variable, values in HIDING.items():
        if (value := os.environ.get(variable, "")).lower() in values:
            return ("float32",), f"{variable}={value} hides the processor's {which} instructions"
    return ("bf16", "float32"), f"the processor has {which} instructions"
