"""How long `mobench --help` takes, and what it imports.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

HEAVY = ("torch", "onnxruntime", "matplotlib", "numpy", "pandas", "scipy", "ai_edge_litert", "rich")


def main() -> None:
    """Print median and longest of 20 calls, and the heavy modules that were imported."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mobench", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    script = "import sys\nsys.argv = ['mobench', '--help']\nfrom mobench.cli import main\n"
    script += f"try: main()\nfinally: print('imported:', [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    print(f"mobench --help: median {statistics.median(times):.3f} s, longest of 20 {max(times):.3f} s")
    print(done.stderr.strip())


if __name__ == "__main__":
    main()
