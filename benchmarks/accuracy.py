"""Top-1 of real checkpoints exported by mobench, in every precision and both runtimes, against their FP32.

Calibrates INT8 with 100 of the photographs, and evaluates on the others; and with the embedded set, on all of them.

    python benchmarks/accuracy.py ../shared/data
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# checkpoint: network; width, size and padding are in the files' metadata
CHECKPOINTS = {
    "mobilenet_v2_1.0_224": "mobilenet_v2",
    "mobilenet_v1_0.5_160": "mobilenet_v1",
    "mobilenet_v1_0.25_128": "mobilenet_v1",
}
PRECISIONS = ("--fp32", "--fp16", "--int8")


def mobench(*arguments: object) -> list[dict[str, Any]]:
    """Run a verb as a user would, with --json; return what it prints."""
    command = [sys.executable, "-m", "mobench", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    printed: list[dict[str, Any]] = json.loads(done.stdout)
    return printed


def main() -> None:
    """Print a line for each file: top-1 with its interval, n, and the difference to FP32 on the same photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="holds checkpoints/ and imagenet-sample/")
    arguments = parser.parse_args()
    photographs = arguments.data / "imagenet-sample"
    print("| checkpoint | calibration | file | n | top-1 % [95 %] | to FP32 |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for checkpoint, network in CHECKPOINTS.items():
            weights = arguments.data / "checkpoints" / f"{checkpoint}.safetensors"
            for calibration in ("embedded", "100 photographs"):
                folder = Path(name, checkpoint, calibration.split()[0])
                photos = ["--calibration", photographs] if calibration != "embedded" else []
                mobench("export", network, *PRECISIONS, "--weights", weights, *photos, "-o", folder)
                rows = mobench("eval", folder, "--data", photographs, "-o", folder)
                fp32 = {row["runtime"]: row["top1"] for row in rows if row["precision"] == "fp32"}
                for row in rows:
                    low, high = row["top1_ci"]
                    change = "" if row["precision"] == "fp32" else f"{row['top1'] - fp32[row['runtime']]:+.2f}"
                    print(
                        f"| {checkpoint} | {calibration} | {Path(row['file']).name} | {row['n']}"
                        f" | {row['top1']:.2f} [{low:.1f}, {high:.1f}] | {change} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
