"""The harness's GPU path, on Vulkan in software: right answers and no silent fall-back. It says nothing of speed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from harness_parts import session, wheel
from standin.tools import HOW_TO_GET_VULKAN, vulkan

from mobench.errors import SessionError


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    """The environment in which LiteRT finds a GPU, and the folder with its accelerator alone."""
    found = vulkan()
    if found is None:
        pytest.skip(HOW_TO_GET_VULKAN)
    folder = tmp_path_factory.mktemp("accelerators")
    accelerator = wheel("ai_edge_litert", "libLiteRt*Accelerator.so")
    (folder / accelerator.name).symlink_to(accelerator)
    return {**os.environ, **found}, str(folder)


def test_the_gpu_computes_what_the_cpu_does_in_the_precision_asked(
    gpu: tuple[dict[str, str], str], harness: Path, tflite_model: Path
) -> None:
    env, folder = gpu
    samples = np.random.default_rng(5).standard_normal((3, 8, 8, 3)).astype(np.float32)
    outputs = {}
    for provider in ("xnnpack", "gpu-fp32", "gpu-fp16"):
        with session(harness, tflite_model, env, provider=provider, accelerators=folder) as one:
            outputs[provider] = one.predict(samples)
            assert one.ready.nodes_delegated == one.ready.nodes_total
            if provider != "xnnpack":
                assert one.ready.asked == provider.replace("gpu-", "GPU ")
                assert one.ready.got.startswith("GPU ") and f" {provider[4:]}" in one.ready.got
                assert min(one.time(lead_in=1, timed=5).wall_ns) > 0
    exact, half = outputs["gpu-fp32"], outputs["gpu-fp16"]
    np.testing.assert_allclose(exact, outputs["xnnpack"], atol=1e-5)
    assert 1e-5 < np.abs(half - outputs["xnnpack"]).max() < 1e-2, "fp16 that computes as fp32 is none"


@pytest.mark.parametrize("write", [tiny_tflite.matrix_diag, tiny_tflite.reverse_sequence, tiny_tflite.rfft2d])
def test_a_model_that_the_gpu_takes_in_part_is_refused_and_what_is_left_named(
    write: Callable[[Path], Path], gpu: tuple[dict[str, str], str], harness: Path, tmp_path: Path
) -> None:
    env, folder = gpu
    name = write.__name__.upper()
    with pytest.raises(
        SessionError, match=rf"does not take all of {name}\.tflite: partial: {name}: .*1 operations will"
    ):
        session(harness, write(tmp_path / f"{name}.tflite"), env, provider="gpu-fp32", accelerators=folder)


def test_no_usable_adapter_is_an_error_and_never_the_cpu(
    gpu: tuple[dict[str, str], str], harness: Path, tflite_model: Path
) -> None:
    env, folder = gpu
    without = {**env, "VK_ICD_FILENAMES": "/no/driver.json"}
    with pytest.raises(SessionError, match=r"the GPU cannot load or run tiny\.tflite.*No adapters found"):
        session(harness, tflite_model, without, provider="gpu-fp16", accelerators=folder)


def test_adapters_in_software_are_named(gpu: tuple[dict[str, str], str], harness: Path, tflite_model: Path) -> None:
    env, folder = gpu
    with session(harness, tflite_model, env, provider="gpu-fp32", accelerators=folder) as one:
        if "SwiftShader" not in one.ready.got and "llvmpipe" not in one.ready.got:
            pytest.skip("there is a GPU here")
        assert one.ready.got.endswith("in software")
