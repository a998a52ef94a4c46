"""``python -m monai.bundle`` on a device that may be emulated, with a note of where its convolutions ran.

The first argument is the file of that note, the second the name of the device; the others are those of
``monai.bundle``. The note is a JSON list of [device of the input, device of the weight, how often].
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import sys
from collections import Counter
from pathlib import Path

import torch

note, device, *arguments = sys.argv[1:]
sys.path[0] = os.getcwd()  # as `python -m` does: there the package lies
if device == "egpu":
    sys.path.append(str(Path(__file__).parent / "egpu"))
    import egpu  # noqa: F401 - makes the device known

seen: Counter[tuple[str, str]] = Counter()


def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    if isinstance(module, torch.nn.Conv3d):
        seen[inputs[0].device.type, module.weight.device.type] += 1


# On all modules: an inference runs a copy of the network that its config names.
torch.nn.modules.module.register_module_forward_pre_hook(look)
atexit.register(lambda: Path(note).write_text(json.dumps([[*pair, times] for pair, times in seen.items()])))
sys.argv[1:] = arguments
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
