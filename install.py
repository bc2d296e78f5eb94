"""Run by ComfyUI's manager after it installed the requirements: fetches llama.cpp's converter.

Nothing is compiled here, and a failure (no network, say) does not fail the installation: training works
without it, and Export GGUF says what to do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parent


def main() -> int:
    """Fetch the converter; always succeeds, for what is missing was said on the terminal."""
    subprocess.run(
        [sys.executable, "-m", "gdpo.export.converter", "--fetch"], cwd=PACK, check=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
