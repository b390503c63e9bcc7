"""Checkpoint files: wrappers, averaged weights, code that is never run, damage."""

import argparse
import os
import pickle
import struct
from pathlib import Path

import pytest
from weight_files import refusal, save_file, state

from mobench import zoo
from mobench.errors import BadInputError
from mobench.zoo import weights
from mobench.zoo.keys import LAYOUTS

torch = pytest.importorskip("torch", reason="needs mobench[export]")

SMALL = zoo.get("mobilenet_v1", width=0.25, input_size=64)


def timm_v1():
    return state(SMALL, LAYOUTS["mobilenet_v1"][0])


def test_a_training_checkpoint_is_unwrapped(tmp_path):
    held = timm_v1()
    torch.save({"epoch": 3, "state_dict": held, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    module = weights.resolve(SMALL, str(tmp_path / "w.pth")).build()
    assert torch.equal(module[0].conv.weight, held["conv_stem.weight"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, suffix, prefix):
    held = {prefix + key: value for key, value in timm_v1().items()}
    path = tmp_path / f"w{suffix}"
    save_file(held, path) if suffix == ".safetensors" else torch.save(held, path)
    module = weights.resolve(SMALL, str(path)).build()
    assert torch.equal(module[0].conv.weight, held[f"{prefix}conv_stem.weight"])


@pytest.mark.parametrize("wrapper", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_taken_before_the_last_ones_and_said_to_be(tmp_path, wrapper):
    averaged = {f"module.{key}": value for key, value in timm_v1().items()}
    if wrapper == "model_ema":  # torchvision's
        averaged["n_averaged"] = torch.tensor(5)
    last = {key: value * 0 for key, value in timm_v1().items()}
    # timm's script keeps its options there as well.
    options = argparse.Namespace(lr=0.1, model="mobilenetv1_100")
    torch.save({"args": options, "state_dict": last, "model": last, wrapper: averaged}, tmp_path / "w.pth")
    said = []
    module = weights.resolve(SMALL, str(tmp_path / "w.pth"), say=said.append).build()
    assert torch.equal(module[0].conv.weight, averaged["module.conv_stem.weight"])
    assert "the averaged are taken" in said[0]


@pytest.mark.parametrize("options", [argparse.Namespace(model_ema=False), {"model_ema": True}])
def test_an_option_called_like_averaged_weights_is_none(tmp_path, options):
    torch.save({"model": timm_v1(), "epoch": 3, "args": options}, tmp_path / "w.pth")
    said = []
    resolved = weights.resolve(SMALL, str(tmp_path / "w.pth"), say=said.append)
    assert torch.equal(resolved.build()[0].conv.weight, timm_v1()["conv_stem.weight"])
    assert not any("averaged" in line for line in said)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_network_is_refused_before_it_is_read(tmp_path, zipped):
    whole = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    torch.save(whole, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadInputError, match=r"more than weights.*state_dict\(\) alone"):
        weights.resolve(SMALL, str(tmp_path / "w.pth"))


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_never_run(tmp_path, writer):
    path, mark = tmp_path / "w.pth", tmp_path / "ran"
    held = {**timm_v1(), "evil": _Evil(mark)}
    if writer == "torch":
        torch.save(held, path)
    else:
        path.write_bytes(pickle.dumps({**dict.fromkeys(timm_v1(), 0), "evil": _Evil(mark)}))
    message = refusal(SMALL, str(path))
    assert not mark.exists()
    assert "holds more than weights" in message or "truncated or no checkpoint" in message


def test_no_such_file_lists_the_choices(tmp_path):
    message = refusal(SMALL, str(tmp_path / "none.safetensors"))
    assert "there is no such file" in message and "random:SEED" in message


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["empty", "half", "tail", "noise", "text"])
def test_a_damaged_file_is_one_line(tmp_path, suffix, damage):
    path = tmp_path / f"w{suffix}"
    save_file(timm_v1(), path) if suffix == ".safetensors" else torch.save(timm_v1(), path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "tail": whole[:-10],
            "noise": bytes(range(256)) * 40,
            "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        }[damage]
    )
    assert str(path) in refusal(SMALL, str(path))


@pytest.mark.parametrize("header", [b"[]", b"null", b'{"a": 1}', b'{"a": {"shape": [1]}}', b"\xff\xfe", b'{"a": []}'])
def test_a_safetensors_header_of_another_form_is_one_line(tmp_path, header):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "truncated or no checkpoint" in refusal(SMALL, str(path))


def test_a_file_of_another_kind_and_a_folder_are_refused(tmp_path):
    (tmp_path / "w.onnx").write_bytes(b"x")
    assert ".safetensors, .pth" in refusal(SMALL, str(tmp_path / "w.onnx"))
    assert "there is no such file" in refusal(SMALL, str(tmp_path))
