"""Models from outside the zoo: factories, timm's and torchvision's networks. Files: test_given_files.py."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobench import artifacts, own_models, own_modules
from mobench.errors import BadInputError, MissingExtraError
from mobench.own_modules import OwnModule
from mobench.records import Preprocess
from mobench.subjects import Asked

torch = pytest.importorskip("torch", reason="needs mobench[export]")
onnx = pytest.importorskip("onnx", reason="needs mobench[export]")

FACTORIES = """
import torch
from torch import nn
from neighbour import CLASSES

def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    ).train()

class Two(nn.Module):
    def forward(self, image, mask, scale=1):
        return image

def two():
    return Two()

def three():
    return 3

def segmenter():
    return nn.Conv2d(3, 8, 3)

def several():
    class Several(nn.Module):
        def forward(self, x):
            return {"scores": x}
    return Several()

def raises():
    raise ValueError("no such checkpoint\\nand more")

def leaves():
    raise SystemExit(1)

def misfit():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 2))
"""


@pytest.fixture(scope="module")
def factories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(FACTORIES)
    (folder / "neighbour.py").write_text("CLASSES = 10\n")
    (folder / "broken.py").write_text("import torch\ndef make(:\n")
    return folder / "net.py"


def resolved(thing: str, **asked: Any) -> own_models.Subject:
    return own_models.resolve(thing, Asked(size=32, **asked), lambda line: None)


def built(thing: str, **asked: Any) -> Any:
    weights = resolved(thing, **asked).weights
    return weights.build(np.random.RandomState(0).standard_normal((4, 3, 32, 32)).astype(np.float32))


# --- factories ---


def test_a_factorys_module_comes_in_eval_mode_and_the_same_every_time(factories: Path) -> None:
    once, twice = built(f"{factories}:make"), built(f"{factories}:make")
    assert not any(layer.training for layer in once.modules())
    assert torch.equal(once[0].weight, twice[0].weight)  # both formats are exported from equal weights
    assert torch.equal(once[1].running_mean, torch.zeros(8))  # statistics stay as the factory made them
    drawn = built(f"{factories}:make", weights="random:1")
    assert not torch.equal(drawn[0].weight, once[0].weight)
    assert not torch.equal(drawn[1].running_mean, torch.zeros(8))  # random weights get lifelike ones
    assert str(factories.parent) not in sys.path


def test_what_a_manifest_says_of_a_factory(factories: Path) -> None:
    told: list[str] = []
    subject = own_models.resolve(f"{factories}:make", Asked(mean=(0.5,) * 3), told.append)
    sha256 = artifacts.sha256(factories)
    source = {"kind": "factory", "name": "net.py:make", "version": None, "sha256": sha256}
    assert (subject.network["label"], subject.network["source"]) == ("net_make", source)
    assert (subject.weights.origin["kind"], subject.weights.origin["sha256"]) == ("own", sha256)
    assert subject.weights.preprocess == Preprocess(size=224, mean=(0.5, 0.5, 0.5))
    drawn, other = (resolved(f"{factories}:{name}", weights="random") for name in ("make", "misfit"))
    assert drawn.weights.origin["source"] == "random:0 of net.py:make"
    assert drawn.weights.origin["sha256"] == sha256
    assert drawn.weights.origin != other.weights.origin  # one in the other's place is announced
    assert "its own code runs" in told[0]
    assert "assumed 224 pixels, ImageNet's std, centre crop of 0.875 (--size, --std, --crop say otherwise)" in told[1]
    assert str(factories.parent) not in json.dumps([subject.network, dict(subject.weights.origin)])


def test_a_state_dict_is_loaded_whole_or_refused(factories: Path, tmp_path: Path) -> None:
    state = built(f"{factories}:make", weights="random:3").state_dict()
    torch.save(state, tmp_path / "mine.pth")
    loaded = built(f"{factories}:make", weights=str(tmp_path / "mine.pth"))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in state.items())
    torch.save({**state, "7.bias": torch.zeros(3), "extra": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        BadInputError,
        match=r"other.pth does not fit net.py:make: 1 of another shape: 7.bias; 1 not the module's: extra",
    ):
        built(f"{factories}:make", weights=str(tmp_path / "other.pth"))


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        ("two", "net.py:two: its forward takes 2 inputs (image, mask); only models of one image can be exported"),
        ("three", "net.py:three: it returned something of type int; a torch.nn.Module is needed"),
        ("several", "net.py:several: its output is something of type dict of 1; one tensor [N, classes] is needed"),
        ("segmenter", "net.py:segmenter: its output is [1, 8, 30, 30] float32, not [1, classes] floats for an image"),
        ("raises", f"net.py:raises raised: net.py:{FACTORIES.split('raise ValueError')[0].count(chr(10)) + 1}:"
                   " ValueError: no such checkpoint"),
        ("leaves", "SystemExit: 1"),
        ("misfit", "net.py:misfit raised: RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("absent", "net.py:absent: there is no such function in the file; it has "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_factory_is_one_line(factories: Path, factory: str, line: str) -> None:
    with pytest.raises(BadInputError) as raised:
        built(f"{factories}:{factory}")
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_factory_that_lacks_memory_is_tried_again(factories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(file: Path, name: str) -> None:
        raise MemoryError

    monkeypatch.setattr(own_modules, "_function", starve)
    with pytest.raises(MemoryError):  # which the worker knows as such
        built(f"{factories}:make")


def test_a_file_that_is_no_python_names_its_line(factories: Path) -> None:
    with pytest.raises(BadInputError, match=r"broken.py:make raised: broken.py:2: SyntaxError: invalid syntax"):
        built(f"{factories.with_name('broken.py')}:make")


@pytest.mark.parametrize(
    ("thing", "asked", "line"),
    [
        ("net.py", {}, "it names no factory; give net.py:NAME"),
        ("nowhere.py:make", {}, "there is no file nowhere.py"),
        ("FACTORIES:make", {"width": 0.5}, "--width for .*: it is no network of the zoo"),
        ("FACTORIES:make", {"weights": "pretrained"}, "nobody publishes weights of it"),
        ("FACTORIES:make", {"weights": "nowhere.pth"}, "no weights 'nowhere.pth': there is no such file"),
    ],
)
def test_bad_requests_are_told_before_anything_runs(
    factories: Path, thing: str, asked: dict[str, Any], line: str
) -> None:
    with pytest.raises(BadInputError, match=line):
        resolved(thing.replace("FACTORIES", str(factories)), **asked)


# --- timm and torchvision ---


def test_a_library_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtraError, match=r"^torchvision is not installed; pip install torchvision$"):
        resolved("torchvision:resnet18")


class Library:
    """Stands in for timm: one network, and what it was asked to build."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def names(self) -> list[str]:
        """All it has."""
        return ["resnet50"]

    def describe(self, name: str) -> own_modules.Described | None:
        """Its one network."""
        preprocess = Preprocess(size=40, crop=0.95, interpolation="bicubic")
        return (
            own_modules.Described(preprocess=preprocess, default="a1_in1k", version="9") if name == "resnet50" else None
        )

    def build(self, name: str, pretrained: str | None) -> Any:
        """Remember what was asked."""
        self.asked.append((name, pretrained))
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def test_a_librarys_network_brings_its_preprocessing_and_no_label_of_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setitem(own_modules.LIBRARIES, "timm", lambda: library)  # type: ignore[misc]
    told: list[str] = []
    subject = own_models.resolve("timm:resnet50", Asked(), told.append)
    assert subject.weights.preprocess == Preprocess(size=40, crop=0.95, interpolation="bicubic")
    assert subject.weights.origin["source"] == "random:0 of timm:resnet50, timm 9"
    assert subject.network["label"] == "resnet50_timm"  # the zoo has a resnet50
    assert told == ["timm:resnet50 is exported as resnet50_timm: resnet50 is a network of `mobench models`"]
    trained = own_models.resolve("timm:resnet50", Asked(weights="pretrained"), told.append)
    assert trained.weights.origin["source"] == "timm:resnet50, a1_in1k, timm 9"
    trained.weights.build(None)
    assert library.asked == [("resnet50", "a1_in1k")]
    with pytest.raises(BadInputError, match=r"timm has no 'resnet51'; did you mean resnet50\?"):
        resolved("timm:resnet51")


@pytest.mark.parametrize(
    ("thing", "crop"), [("timm:mobilenetv3_small_050", 0.875), ("torchvision:shufflenet_v2_x0_5", 224 / 256)]
)
def test_the_real_libraries(thing: str, crop: float) -> None:
    """In a process of its own: importing torchvision beside the CPU build of torch leaves traces."""
    if importlib.util.find_spec("timm") is None or importlib.util.find_spec("torchvision") is None:
        pytest.skip("needs timm and torchvision (pip install --no-deps torchvision timm)")
    script = (
        "import sys, numpy as np\nfrom mobench import own_models\nfrom mobench.subjects import Asked\n"
        "s = own_models.resolve(sys.argv[1], Asked(size=64), print)\n"
        "images = np.random.RandomState(0).standard_normal((4, 3, 64, 64)).astype(np.float32)\n"
        "import torch\nprint(list(s.weights.build(images)(torch.zeros(1, 3, 64, 64)).shape), s.weights.preprocess.crop)"
    )
    done = subprocess.run([sys.executable, "-c", script, thing], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == f"[1, 1000] {crop}", done.stderr


def test_module_names_are_what_a_user_typed() -> None:
    module = OwnModule(kind="timm", name="resnet18", preprocess=Preprocess(size=8), origin={})
    assert module.shown == "timm:resnet18"
    assert own_models.label("a/b/net.v2.py:make") == "net.v2_make"
    assert own_models.label("timm:hf_hub:user/net") == "hf_hub_user_net"
    assert [own_models.is_own(thing) for thing in ("mobilenet_v2", "x.py:f", "a.onnx", "timm:x")] == [
        False,
        True,
        True,
        True,
    ]
