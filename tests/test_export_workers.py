"""Export requests in worker processes: what fails, what is kept, what is left behind, and what is not made again."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_export import CLASSES, SIZE, TinyImages, TinyWeights, channels_first, request, run_onnx, tiny_module

from exporters import memory, worker
from exporters.export import export_all
from exporters.finish import Outcome, finish
from exporters.recipe import Given, Request
from exporters.schedule import Schedule
from mobench import artifacts
from mobench.errors import ExportError, SessionError
from mobench.records import Preprocess

pytest.importorskip("torch", reason="needs mobench[export]")
pytest.importorskip("onnx", reason="needs mobench[export]")


@pytest.fixture
def reference(tmp_path: Path) -> worker.Reference:
    """The images and logits that any request here is verified with."""
    found = converted(request(tmp_path / "reference", precisions=()))[0]
    assert isinstance(found, worker.Reference)
    return found


def converted(what: Request) -> list[worker.Message]:
    messages: list[worker.Message] = []
    worker.convert(what, messages.append, worker.Kept(), worker.Kept())
    return messages


def test_worker_sends_the_reference_then_each_file(tmp_path: Path) -> None:
    import torch

    reference, *files, done = converted(request(tmp_path, precisions=("fp32", "int8")))
    assert isinstance(reference, worker.Reference)
    with torch.inference_mode():
        logits = tiny_module()(torch.from_numpy(channels_first(reference.images))).numpy()
    np.testing.assert_allclose(reference.logits, logits, atol=1e-5)  # of the network before batch norm was folded
    assert isinstance(done, worker.Done)
    found = [(f.precision, f.path.name[0], f.path.suffix) for f in files if isinstance(f, worker.Converted)]
    assert found == [("fp32", ".", ".onnx"), ("int8", ".", ".onnx")]


def test_what_cannot_be_simulated_costs_the_int8_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(module: Any, images: np.ndarray) -> None:
        raise ValueError("it has no nn.Conv2d and no nn.Linear that could be quantized")

    monkeypatch.setattr(worker, "Simulated", refuse)
    messages = converted(replace(request(tmp_path, precisions=("int8", "fp32")), explain=True))
    assert [type(message).__name__ for message in messages] == ["Reference", "Failed", "Converted", "Done"]
    (failed,) = (message for message in messages if isinstance(message, worker.Failed))
    assert failed.precision == "int8" and "no nn.Conv2d and no nn.Linear" in str(failed.error)


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    failed = next(m for m in converted(request(tmp_path)) if isinstance(m, worker.Failed))
    assert str(failed.error) == (
        f"cannot write {tmp_path / 'tiny-fp32.onnx'}: No space left on device;"
        " free some space, or name another folder with -o"
    )
    assert list(tmp_path.iterdir()) == []


def test_full_disk_at_the_manifest_leaves_no_file_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: worker.Reference
) -> None:
    def refuse(path: Path, manifest: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(artifacts, "write_manifest", refuse)
    begun = tmp_path / ".tiny-fp32.1.onnx"
    begun.write_bytes(b"model")
    logits = reference.logits
    assert logits is not None
    with pytest.raises(ExportError, match=r"cannot write .*No space left on device"):
        finish(request(tmp_path), "fp32", begun, reference.images, logits, lambda path, inputs: (logits, {}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "known"), [("timm", True), ("factory", False)])
def test_a_factorys_file_is_never_taken_for_unchanged(
    tmp_path: Path, reference: worker.Reference, kind: str, known: bool
) -> None:
    """What else a factory imports and reads is not in the key."""
    plain = request(tmp_path)
    what = replace(plain, network={**plain.network, "source": {"kind": kind, "name": "net"}})
    begun = tmp_path / ".tiny-fp32.1.onnx"
    begun.write_bytes(b"model")
    logits = reference.logits
    assert logits is not None
    finish(what, "fp32", begun, reference.images, logits, lambda path, inputs: (logits, {}))
    assert (what.unchanged("fp32") is not None) == known


# --- worker processes ---


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes unpickle what this file defines."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def predict_onnx(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    return run_onnx(path, inputs), {"name": "ort"}


def by_label(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    return {f"{outcome.label}-{outcome.precision}": outcome for outcome in outcomes}


@pytest.mark.usefixtures("importable")
def test_failures_are_outcomes_and_do_not_stop_the_others(tmp_path: Path) -> None:
    """One worker meets an exception, an abort, a file that came out wrong and one that does not run, and goes on."""

    def predict(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        if "wrong" in path.name:  # as if a weight had been damaged on the way
            return np.zeros((len(inputs), CLASSES), np.float32), {}
        if "dies" in path.name:
            raise SessionError(path.name, "its process ended (killed by SIGABRT)", "try the other runtime")
        return predict_onnx(path, inputs)

    requests = [
        request(tmp_path, "raise", "raises"),
        request(tmp_path, "ask", "asks"),
        request(tmp_path, "abort", "aborts"),
        request(tmp_path, "", "wrong"),
        request(tmp_path, "", "dies"),
        request(tmp_path, "", "good", ("fp32", "int8")),
    ]
    found = by_label(export_all(requests, predict=predict, jobs=1))
    errors = {label: str(outcome.error) for label, outcome in found.items() if outcome.error}
    assert errors.keys() == {"raises-fp32", "asks-fp32", "aborts-fp32", "wrong-fp32", "dies-fp32"}
    assert "could not be exported: RuntimeError: no such operator; see --verbose" in errors["raises-fp32"]
    assert "the library's own words" in found["raises-fp32"].log
    assert "and a second line" in found["raises-fp32"].log
    assert "EOFError: EOF when reading a line" in errors["asks-fp32"]  # not the next request, and no endless wait
    assert "killed by SIGABRT" in errors["aborts-fp32"]
    assert "wrong-fp32.onnx is too far from torch" in errors["wrong-fp32"]
    assert "dies-fp32.onnx does not run" in errors["dies-fp32"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["good-fp32.onnx", "good-fp32.onnx.json", "good-int8.onnx", "good-int8.onnx.json"]

    manifest = found["good-int8"].manifest
    assert manifest["calibration"] == TinyImages().describe()
    assert found["good-fp32"].manifest["calibration"] is None
    assert manifest["verification"]["tolerance"] == {"max_rel_error": None, "min_snr_db": 5.0}
    assert manifest["verification"]["n"] == 8

    again = by_label(export_all([requests[-1]], predict=predict))
    assert {outcome.status for outcome in again.values()} == {"unchanged"}
    assert again["good-int8"].manifest == manifest

    (tmp_path / "good-fp32.onnx").write_bytes(b"damaged")
    statuses = {label: o.status for label, o in by_label(export_all([requests[-1]], predict=predict)).items()}
    assert statuses == {"good-fp32": "exported", "good-int8": "unchanged"}


@pytest.mark.usefixtures("importable")
def test_closing_the_iterator_ends_the_workers_and_leaves_nothing_begun(tmp_path: Path) -> None:
    outcomes = export_all(
        [request(tmp_path, "", "first"), request(tmp_path, "hang", "second")], predict=predict_onnx, jobs=1
    )
    assert next(outcomes).label == "first"
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < 30  # not the two minutes the worker would have slept
    assert not [thread for thread in threading.enumerate() if thread.name == "mobench-export"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first-fp32.onnx", "first-fp32.onnx.json"]


# --- memory ---


def schedule(requests: list[Request], memory_mb: float | None) -> Schedule:
    return Schedule(requests, memory_mb=lambda: memory_mb)


def sized(folder: Path, label: str, memory_mb: float) -> Request:
    return replace(request(folder, label=label), memory_mb=memory_mb)


def nothing() -> None:
    raise AssertionError("nobody has to wait")


def test_requests_run_side_by_side_only_where_memory_holds_both(tmp_path: Path) -> None:
    big, small, tiny = sized(tmp_path, "big", 3000), sized(tmp_path, "small", 2000), sized(tmp_path, "tiny", 500)
    roomy = schedule([big, small, tiny], 10_000)
    assert [roomy.take(lane, nothing) for lane in range(3)] == [(big, False), (small, False), (tiny, False)]
    unknown = schedule([big, small], None)
    assert [unknown.take(lane, nothing) for lane in range(2)] == [(big, False), (small, False)]
    tight = schedule([big, small, tiny], 4000)
    assert tight.take(0, nothing) == (big, False)
    assert tight.take(1, nothing) == (tiny, False)  # small does not fit beside big; 3600 of 4000 MiB are for use
    assert tight.take(0, nothing) == (small, False)
    assert tight.take(0, nothing) is None
    alone = schedule([big], 100)
    assert alone.take(0, nothing) == (big, False)  # larger than all there is: it is tried, with nothing beside it


def test_a_lane_that_waits_for_memory_ends_its_worker(tmp_path: Path) -> None:
    first, second = sized(tmp_path, "first", 3000), sized(tmp_path, "second", 3000)
    tight = schedule([first, second], 4000)
    assert tight.take(0, nothing) == (first, False)
    released, taken = threading.Event(), []
    waiting = threading.Thread(target=lambda: taken.append(tight.take(1, released.set)))
    waiting.start()
    assert released.wait(10) and not taken
    tight.stop()
    waiting.join(10)
    assert taken == [None]
    tight = schedule([first, second], 4000)
    assert tight.take(0, nothing) == (first, False)
    released.clear()
    waiting = threading.Thread(target=lambda: taken.append(tight.take(1, released.set)))
    waiting.start()
    assert released.wait(10)
    assert tight.take(0, nothing) == (second, False)  # whoever is first
    waiting.join(10)
    assert taken == [None, None]


def test_a_lane_prefers_its_last_network_and_leaves_other_lanes_theirs(tmp_path: Path) -> None:
    a, b = request(tmp_path, label="a"), request(tmp_path, label="b")
    a_tflite, b_tflite = replace(a, format="tflite"), replace(b, format="tflite")
    both = schedule([a_tflite, a, b_tflite, b], None)
    assert [both.take(0, nothing), both.take(1, nothing)] == [(a_tflite, False), (b_tflite, False)]
    assert [both.take(1, nothing), both.take(0, nothing)] == [(b, False), (a, False)]


@pytest.mark.usefixtures("importable")
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_export_is_tried_once_more_alone_and_the_others_finish(tmp_path: Path) -> None:
    once, always = request(tmp_path, f"killed once {tmp_path / 'mark'}", "once"), request(tmp_path, "killed", "always")
    found = by_label(export_all([once, always, request(tmp_path, "", "good")], predict=predict_onnx, jobs=1))
    assert {label: outcome.status for label, outcome in found.items()} == {
        "once-fp32": "exported",
        "always-fp32": "failed",
        "good-fp32": "exported",
    }
    assert list(found) == ["good-fp32", "once-fp32", "always-fp32"]  # what was killed comes last
    line = str(found["always-fp32"].error)
    assert line.startswith("always-fp32.onnx could not be exported: the ")
    assert "memory" in line and line.endswith("close what else runs, or export at a smaller --size")


@pytest.mark.usefixtures("importable")
def test_an_allocation_that_fails_is_tried_again_too(tmp_path: Path) -> None:
    starved = request(tmp_path, "starved", "starved")
    found = by_label(export_all([starved, request(tmp_path, "", "good")], predict=predict_onnx, jobs=1))
    assert list(found) == ["good-fp32", "starved-fp32"]
    assert "can't allocate memory: you tried" in str(found["starved-fp32"].error)


def test_the_smallest_of_the_systems_and_the_containers_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal:       2048000 kB\nMemAvailable:   1024000 kB\n")
    group.mkdir()
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CGROUPS", ((group, "memory.max", "memory.current", "inactive_file"),))
    assert memory.available_mb() == 1000
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text(f"{500 * 2**20}\n")
    assert memory.available_mb() == 1000
    (group / "memory.max").write_text(f"{800 * 2**20}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {100 * 2**20}\n")
    assert memory.available_mb() == 400
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    monkeypatch.setattr(memory, "_CGROUPS", ())
    assert memory.available_mb() is None


# --- keys ---


class Cropped(TinyWeights):
    """The same weights, the photographs prepared otherwise."""

    @property
    def preprocess(self) -> Preprocess:
        """Of the same size."""
        return Preprocess(size=SIZE, crop=1.0)


def test_the_key_follows_what_determines_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = request(tmp_path)
    keys = {
        plain.key("fp32"),
        plain.key("int8"),
        replace(plain, format="tflite").key("fp32"),
        replace(plain, weights=TinyWeights("other")).key("fp32"),
        replace(plain, network={**plain.network, "padding": "symmetric"}).key("fp32"),
        replace(plain, calibration=TinyImages(sha256="2")).key("int8"),
    }
    file = Given(path=tmp_path / "theirs.onnx", input="image", layout="NCHW")
    keys |= {
        replace(plain, weights=Cropped()).key("fp32"),
        replace(plain, keep_float=1).key("int8"),
        replace(plain, via="tensorflow").key("fp32"),
        replace(plain, given=file).key("fp32"),
        replace(plain, network={**plain.network, "source": {"kind": "timm", "version": "1"}}).key("fp32"),
        replace(plain, network={**plain.network, "source": {"kind": "timm", "version": "2"}}).key("fp32"),
    }
    assert len(keys) == 12
    # Other photographs do not change a float file of given weights, nor does the folder it lies in.
    assert replace(plain, calibration=TinyImages(sha256="2")).key("fp32") == plain.key("fp32")
    assert replace(plain, folder=tmp_path / "elsewhere").key("fp32") == plain.key("fp32")
    version: Callable[[str], str] = lambda name: "99"  # noqa: E731
    monkeypatch.setattr("importlib.metadata.version", version)
    assert plain.key("fp32") not in keys
