"""Import me before anything else to have a device `egpu`: an emulated accelerator, see egpu.cpp."""

import os
import sys
import types

import torch
from torch.utils.cpp_extension import load

_here = os.path.dirname(os.path.abspath(__file__))
_build = os.environ.get("EGPU_BUILD") or os.path.join(
    os.path.expanduser("~"), ".cache", f"egpu-{torch.__version__}-{sys.implementation.cache_tag}"
)
os.makedirs(_build, exist_ok=True)
torch.utils.rename_privateuse1_backend("egpu")
_c = load(
    "egpu_c",
    [os.path.join(_here, "egpu.cpp")],
    build_directory=_build,
    verbose=bool(os.environ.get("EGPU_VERBOSE")),
    extra_cflags=["-O1"],
)
_c.install()
m = types.ModuleType("torch.egpu")
m.is_available = lambda: True
m.is_initialized = lambda: True
m.device_count = lambda: 1
m.current_device = lambda: 0
m.set_device = lambda d: None
m.synchronize = lambda d=None: None
m.empty_cache = lambda: None
m._is_in_bad_fork = lambda: False
m._lazy_init = lambda: None
m.manual_seed = m.manual_seed_all = lambda s: None
m.get_rng_state = lambda d=None: torch.get_rng_state()
m.set_rng_state = lambda s, d=None: None
m.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16, torch.float32]
m.mem_get_info = lambda d=None: (8 << 30, 16 << 30)
torch._register_device_module("egpu", m)
torch.utils.generate_methods_for_privateuse1_backend()
