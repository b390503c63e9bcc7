"""mobench in Python: the same as the command line, as DataFrames."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import mobench
from mobench import store
from mobench.errors import BadInputError


def test_run_returns_a_row_a_cell_and_names_its_journal(onnx_model: Path, tflite_model: Path) -> None:
    frame = mobench.run([onnx_model, tflite_model], budget_s=2, results="elsewhere")
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["cell"]) == ["tiny.onnx", "tiny.tflite"]
    assert (frame["p50_ms"] > 0).all() and frame["ratio"][0] == 1
    run = store.read(Path(frame.attrs["journal"]))
    assert frame.attrs["end"] == run.end and Path(frame.attrs["journal"]).is_relative_to("elsewhere")
    assert "<table" in frame.to_html()  # what a notebook shows


def test_compare_returns_ratio_interval_and_verdict(onnx_model: Path, tflite_model: Path) -> None:
    frame = mobench.compare(onnx_model, tflite_model, budget_s=3)
    (row,) = frame.to_dict("records")
    assert row["basis"] == "paired" and row["verdict"] in ("faster", "slower", "no difference", "undecided")
    assert row["ratio"] > 0 and (row["ratio_ci"] is None or row["ratio_ci"][0] <= row["ratio"] <= row["ratio_ci"][1])
    assert mobench.compare(frame.attrs["journal"], frame.attrs["journal"])["ratio"].tolist() == pytest.approx([1, 1])


def test_bad_input_is_the_command_lines_error(onnx_model: Path) -> None:
    with pytest.raises(BadInputError, match="absent"):
        mobench.run([onnx_model, "absent.onnx"])
    with pytest.raises(AttributeError, match="no attribute 'never'"):
        mobench.never  # noqa: B018


def test_importing_mobench_loads_nothing_heavy() -> None:
    script = "import sys, mobench; print({'numpy', 'pandas', 'click', 'torch'} & set(sys.modules) or 'light')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "light"
