"""Our TFLite MobileNetV2 against TensorFlow's own conversion of Keras MobileNetV2, FP32 and INT8, in one campaign each.

Needs the `tensorflow` extra. Weights are random on both sides: latency does not depend on them.

    mobench export mobilenet_v2 --fp32 --int8 --format tflite --weights random -o /tmp/ours
    python benchmarks/against_tensorflow.py /tmp/ours
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobench import artifacts, plan
from mobench.campaign import run_cells
from mobench.measure import Settings
from mobench.records import Target
from mobench.stats import summarize
from runners import desktop


def convert(precision: str, path: Path) -> None:
    """Write TensorFlow's conversion of Keras MobileNetV2 1.0-224 (logits, float32 input and output in either)."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    network = tf.keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if precision == "int8":
        rng = np.random.default_rng(0)

        def images() -> Iterator[list[Any]]:
            for _ in range(16):
                yield [rng.uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = images
    path.write_bytes(converter.convert())


def main() -> None:
    """Print the ratio of our latency to theirs, with its interval, for each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds mobilenet_v2-fp32.tflite and mobilenet_v2-int8.tflite")
    parser.add_argument("--budget", type=float, default=120.0)
    arguments = parser.parse_args()
    target = Target(runtime="litert", cores=desktop.choose_cores(1))
    print("| precision | ours, ms | TensorFlow's, ms | ratio [95 %] | of CPU time [95 %] |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "int8"):
            keras = Path(folder, f"keras-{precision}.tflite")
            with contextlib.redirect_stdout(sys.stderr):  # TensorFlow prints its signatures
                convert(precision, keras)
            files = [keras, arguments.folder / f"mobilenet_v2-{precision}.tflite"]
            cells = plan.make_cells([artifacts.read(file) for file in files], [target])
            settings = Settings(budget_s=arguments.budget, ratio_half_width=0.002)
            theirs, ours = summarize(run_cells(cells, settings=settings, results=Path(folder)))
            if not ours.ratio_ci or not ours.ratio_cpu_ci or not ours.p50_ms or not theirs.p50_ms:
                raise SystemExit(f"not timed: {ours.failure or theirs.failure}")
            wall = f"{ours.ratio:.3f} [{ours.ratio_ci[0]:.3f}, {ours.ratio_ci[1]:.3f}]"
            cpu = f"{ours.ratio_cpu:.3f} [{ours.ratio_cpu_ci[0]:.3f}, {ours.ratio_cpu_ci[1]:.3f}]"
            print(f"| {precision} | {ours.p50_ms:.2f} | {theirs.p50_ms:.2f} | {wall} | {cpu} |", flush=True)


if __name__ == "__main__":
    main()
