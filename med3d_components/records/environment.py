"""What decides the numbers of a run beside its options: processor, threads, versions, environment variables."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from med3d_components import __version__
from med3d_components.utils.files import file_digest
from med3d_components.utils.machine import describe_machine

__all__ = ["VARIABLES", "describe_environment", "differences", "package_digest"]

PACKAGE = Path(__file__).parents[1]
WORKSHOP = ("__main__.py", "commands", "planning", "prepare", "report")
"""Parts of the package that no training uses; zips of bundles lack them."""

DISTRIBUTIONS = ("monai", "numpy", "scipy", "scikit-image", "nibabel", "itk", "pydicom", "pytorch-ignite")
"""Packages whose code a training runs, by their names on PyPI; torch tells its own version."""

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "bf16")
"""Instruction sets for which torch, oneDNN and OpenBLAS have kernels of their own, as Linux calls them."""

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "OPENBLAS_CORETYPE",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "PYTHONHASHSEED",
)
"""Environment variables that change numbers."""


def describe_environment(device: torch.device | str = "cpu", processes: int = 1) -> dict[str, Any]:
    """Return what decides the numbers of a run on this machine, as values of JSON.

    Args:
        device: that the network runs on.
        processes: that train together.

    Example:
        >>> sorted(describe_environment())[:4]
        ['device', 'instructions', 'package', 'processes']
    """
    device, machine = torch.device(device), describe_machine()
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    versions |= {name: number for name in DISTRIBUTIONS if (number := _version(name))}
    found: dict[str, Any] = {
        "package": package_digest(),
        "versions": {**versions, "med3d_components": __version__},
        "system": f"{platform.system()} {platform.release()}",
        "processor": machine["processor"],
        "instructions": " ".join([machine["instructions"], *_flags()]),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "device": str(device),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    if device.type == "cuda":
        found["device"] = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return found


def package_digest(package: Path = PACKAGE) -> str:
    """Return a hash of the source of this package that trains: the same in a zip of a bundle, which has no other.

    Args:
        package: its folder.

    Example:
        >>> len(package_digest())
        64
    """
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(package).as_posix(), path) for path in package.rglob("*.py")):
        if name.partition("/")[0] not in WORKSHOP:
            digest.update(f"{package.name}/{name} {file_digest(path)}\n".encode())
    return digest.hexdigest()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in what two environments differ, one line for each difference.

    Args:
        then: of :func:`describe_environment`.
        now: the other one.

    Example:
        >>> differences({"threads": 2, "versions": {"torch": "2.12"}}, {"threads": 2, "versions": {"torch": "2.13"}})
        ['torch: 2.12 then, 2.13 now']
    """
    lines = []
    for name in dict.fromkeys((*then, *now)):
        before, after = then.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after)
        elif before != after:
            if name == "package":
                before, after = str(before)[:12], str(after)[:12]
            lines.append(f"{name}: {_text(before)} then, {_text(after)} now")
    return lines


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _flags() -> list[str]:
    """Return the instruction sets of the processor that matter, where the system tells them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    found = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [flag for flag in FLAGS if flag in found]


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
