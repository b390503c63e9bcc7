"""A network small enough to convert in a second, and stand-ins for the zoo's weights and the calibration images.

They lie in a module of their own because worker processes unpickle them: see `importable` in test_export_workers.py.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporters.recipe import Request
from mobench.records import Preprocess

SIZE = 32
CLASSES = 10


def tiny_module() -> Any:
    """A stem, a depthwise layer with squeeze-and-excitation, h-swish and a classifier: each kind of operator once."""
    import torch
    from torch import nn

    from mobench.zoo.blocks import ConvBN, Dense, InvertedResidual, Pool, Rules
    from mobench.zoo.rows import Row, SqueezeExcite
    from mobench.zoo.spec import Layer

    rules = Rules(padding="same", bn_eps=1e-3)
    se = SqueezeExcite(divisor=2, of="hidden", rounding="truncate", act="relu", gate="hardsigmoid")
    stem = Layer(
        kind="conv", inp=3, out=8, size=SIZE, kernel=3, stride=2, act="relu6", rule=Row(kind="conv", out=8, kernel=3)
    )
    block = Layer(
        kind="inverted", inp=8, hidden=8, out=64, size=SIZE // 2, kernel=3, act="hardswish", se=4,
        rule=Row(kind="inverted", out=64, kernel=3, se=se),
    )  # fmt: skip
    head = Layer(kind="dense", inp=64, out=CLASSES, size=1, rule=Row(kind="dense", out=CLASSES))
    torch.manual_seed(0)
    module = nn.Sequential(ConvBN(stem.parts[0], rules), InvertedResidual(block, rules), Pool(), Dense(head))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return module.eval()


def channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class TinyWeights:
    """Stands in for the zoo's weights; `how` is what goes wrong when they are built, in the worker."""

    how: str = ""

    @property
    def preprocess(self) -> Preprocess:
        """Of the size the module reads."""
        return Preprocess(size=SIZE)

    @property
    def origin(self) -> dict[str, Any]:
        """As of a checkpoint, so that the tolerances are those of trained weights."""
        return {"kind": "file", "source": "tiny", "sha256": "0", "how": self.how}

    def build(self, images: Any) -> Any:
        """Return the module, or fail."""
        if self.how == "abort":
            os.abort()
        if self.how.startswith("killed"):
            mark = self.how.partition(" once ")[2]
            if not mark or not Path(mark).exists():
                if mark:
                    Path(mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "starved":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        if self.how == "hang":
            time.sleep(120)
        if self.how == "ask":
            input("your name? ")
        if self.how == "raise":
            print("the library's own words")
            raise RuntimeError("no such operator\nand a second line")
        return tiny_module()


@dataclass(frozen=True)
class TinyImages:
    """Stands in for a calibration set."""

    n: int = 8
    sha256: str = "1"

    def images(self, p: Preprocess) -> np.ndarray:
        """Noise."""
        return np.random.RandomState(0).standard_normal((self.n, p.size, p.size, 3)).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """As a manifest has it."""
        return {"name": "tiny", "sha256": self.sha256, "n": self.n, "seed": 0}


def request(folder: Path, how: str = "", label: str = "tiny", precisions: tuple[str, ...] = ("fp32",)) -> Request:
    network: dict[str, Any] = {"name": "tiny", "label": label, "width": 1.0, "depth": 1.0, "input_size": SIZE}
    network |= {"padding": "same", "bn_eps": 1e-3}
    return Request(
        network=network,
        weights=TinyWeights(how),
        calibration=TinyImages(),
        format="onnx",
        precisions=precisions,
        folder=folder,
    )


def run_onnx(model: bytes | Path, inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": one[None]})[0] for one in inputs])
