"""Small tools that every other part may use: files, checks and the command line."""

from med3d_components.utils.checks import as_flag, check_finite
from med3d_components.utils.command_line import run_commands
from med3d_components.utils.files import atomic_path, is_nan, move_aside, write_json, write_table

__all__ = [
    "as_flag",
    "atomic_path",
    "check_finite",
    "is_nan",
    "move_aside",
    "run_commands",
    "write_json",
    "write_table",
]
