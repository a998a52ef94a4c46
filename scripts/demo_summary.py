"""Say what `make demo` made and where it lies; fail unless the model beats a guess that never looks at a scan.

python scripts/demo_summary.py demo
"""

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

if __name__ == "__main__":
    run_commands("scripts.commands.demo_summary:summarize", __doc__)
