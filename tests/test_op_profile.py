"""From a runtime's own words to operators: ONNX Runtime's trace and LiteRT's events, made up and of real models."""

import time
from pathlib import Path

import numpy as np
import pytest
from tiny_export import SIZE, tiny_module

from mobench import artifacts
from mobench.errors import MissingExtraError, SessionError
from mobench.hosts.desktop import DesktopHost
from mobench.profile import ceilings
from mobench.profile.operators import blocks_of
from mobench.records import Artifact, Operator, Profile, Target
from runners import desktop, litert_c
from runners.profile import matmul_files, onnx_graph, op_profile, stream
from runners.profile.litert_graph import Event
from runners.profile.litert_graph import operators_of as of_litert
from runners.profile.onnx_graph import Graph, Node, Weight
from runners.profile.ort_trace import operators_of as of_trace
from runners.profile.xnnpack_match import match, partitions

# The multiply-accumulates of tiny_export's network: stem, depthwise, two of the squeeze, 1x1, classifier.
TINY_MACS = [16 * 16 * 8 * 27, 16 * 16 * 8 * 9, 8 * 4, 4 * 8, 16 * 16 * 8 * 64, 64 * 10]


@pytest.fixture(scope="module")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="needs mobench[export]")
    pytest.importorskip("onnx", reason="needs mobench[export]")
    from exporters import fold, to_onnx

    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    path.write_bytes(to_onnx.convert(fold.fold_batch_norm(tiny_module()), SIZE))
    return path


def profiled(artifact: Artifact, runtime: str, **target: object) -> Profile:
    with desktop.open_session(artifact, Target(runtime=runtime, **target)) as session:  # type: ignore[arg-type]
        return session.profile(turns=2, lead_in=1, timed=3)


def check_times(profile: Profile) -> None:
    """Figures that make sense together, whatever the machine does."""
    assert len(profile.plain_ns) == len(profile.profiled_ns) == 6
    assert all(len(operator.ns) == 6 and min(operator.ns) >= 0 for operator in profile.operators)
    for run, whole in enumerate(profile.profiled_ns):
        together = sum(operator.ns[run] for operator in profile.operators)
        assert together <= whole + profile.tick_ns * len(profile.operators)


def test_onnx_runtime_tells_every_operator_of_a_real_network(tiny_onnx: Path) -> None:
    profile = profiled(artifacts.read(tiny_onnx), "ort")
    check_times(profile)
    counted = [operator for operator in profile.operators if operator.macs]
    assert [operator.macs for operator in counted] == TINY_MACS
    assert [operator.kind for operator in counted] == [
        "Conv 3x3", "Conv depthwise 3x3", "Conv 1x1", "Conv 1x1", "Conv 1x1", "Gemm",
    ]  # fmt: skip
    assert {operator.precision for operator in counted} == {"fp32"}
    assert blocks_of(counted) == ["0", "1", "1", "1", "1", "3"]
    assert all((operator.moved_bytes or 0) > 0 for operator in counted)
    assert counted[-1].moved_bytes == 4 * (64 + 64 * 10 + 10 + 10)


def test_quantized_operators_keep_their_macs_though_their_weights_are_packed_away(
    tiny_onnx: Path, tmp_path: Path
) -> None:
    from exporters import quantize_onnx

    images = np.random.default_rng(0).standard_normal((8, SIZE, SIZE, 3)).astype(np.float32)
    path = tmp_path / "tiny-int8.onnx"
    path.write_bytes(quantize_onnx.to_int8(tiny_onnx.read_bytes(), images))
    counted = [operator for operator in profiled(artifacts.read(path), "ort").operators if operator.macs]
    # The 8 depthwise channels are padded to 16 (`exporters/onnx_rewrite.py`), which are computed, and so counted.
    padded = [16 * 16 * 16 * 27, 16 * 16 * 16 * 9, 16 * 4, 4 * 16, 16 * 16 * 16 * 64, 64 * 10]
    assert [operator.macs for operator in counted] == padded
    assert {operator.precision for operator in counted} == {"int8"}
    assert blocks_of(counted) == ["0", "1", "1", "1", "1", "3"]


def test_litert_tells_every_operator_inside_xnnpack(tflite_model: Path) -> None:
    profile = profiled(artifacts.read(tflite_model), "litert")
    check_times(profile)
    counted = [operator for operator in profile.operators if operator.macs]
    assert [(o.kind, o.macs) for o in counted] == [("CONV_2D 3x3", 6 * 6 * 8 * 27), ("FULLY_CONNECTED", 8 * 1000)]
    assert all(operator.kernel != "built-in kernel" for operator in counted)
    assert counted[0].moved_bytes == 4 * (8 * 8 * 3 + 8 * 27 + 8 + 6 * 6 * 8)
    assert blocks_of(counted) == ["0", "4"]


def test_litert_without_xnnpack_tells_its_built_in_kernels(tflite_model: Path) -> None:
    profile = profiled(artifacts.read(tflite_model), "litert", provider="builtin")
    check_times(profile)
    assert {operator.kernel for operator in profile.operators} == {"built-in kernel"}
    assert sum(operator.macs or 0 for operator in profile.operators) == 6 * 6 * 8 * 27 + 8000


@pytest.mark.parametrize("provider", ["", "builtin"])
def test_a_batch_is_counted_in_every_operator_of_litert(tflite_model: Path, provider: str) -> None:
    profile = profiled(artifacts.read(tflite_model), "litert", provider=provider, batch=3)
    assert sum(operator.macs or 0 for operator in profile.operators) == 3 * (6 * 6 * 8 * 27 + 8000)


def test_a_batch_is_counted_in_onnx_runtime(open_batch_onnx_model: Path) -> None:
    profile = profiled(artifacts.read(open_batch_onnx_model), "ort", batch=5)
    assert [operator.macs for operator in profile.operators if operator.macs] == [5 * 3 * 1000]


def test_a_session_goes_on_after_a_profile(onnx_model: Path) -> None:
    with desktop.open_session(artifacts.read(onnx_model), Target(runtime="ort")) as session:
        first, second = session.profile(turns=1, lead_in=0, timed=2), session.profile(turns=1, lead_in=0, timed=2)
        assert [o.name for o in first.operators] == [o.name for o in second.operators]
        assert len(session.time(lead_in=0, timed=2).wall_ns) == 2


def test_a_runtime_without_operator_times_says_so() -> None:
    with pytest.raises(SessionError, match="no operator times"):
        op_profile.answer({"runtime": "other"}, None, [], {})


def test_a_litert_without_its_c_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_c.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SessionError, match="pip install --upgrade ai-edge-litert"):
        litert_c.Litert("a profile", "it")


def test_an_older_litert_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_c.ctypes, "CDLL", lambda path: object())
    with pytest.raises(SessionError, match="an older one"):
        litert_c.Litert("a profile", "it")


# ONNX Runtime's trace


def event(name: str, op: str, dur: int, ts: int = 0, **more: object) -> dict[str, object]:
    shapes = {"input_type_shape": [{"float": [1, 4]}], "output_type_shape": [{"float": [1, 2]}]}
    sizes = {"activation_size": "16", "output_size": "8", "parameter_size": "0"}
    args = {"op_name": op, **shapes, **sizes, **more}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": args}


RUN = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 100}
GEMM = Graph(
    nodes=(Node(name="fc", op="Gemm", domain="", inputs=("x", "head.1.weight"), outputs=("y",)),),
    weights={"head.1.weight": Weight(shape=(2, 4), size_bytes=32)},
)


def test_a_trace_drops_the_runs_that_do_not_count() -> None:
    events = [event("fc", "Gemm", 90), RUN, event("fc", "Gemm", 5), RUN, event("fc", "Gemm", 7), RUN]
    (operator,) = of_trace(events, [False, True, True], GEMM, GEMM, "net")
    assert operator.ns == (5000, 7000) and operator.macs == 8
    assert operator.moved_bytes == 16 + 8 + 32 and operator.path == ("head",)


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        ([event("fc", "Gemm", 1), RUN], [True, True]),
        ([event("fc", "Gemm", 1), RUN, event("other", "Gemm", 1), RUN], [True, True]),
    ],
)
def test_a_trace_that_was_cut_off_or_changes_is_refused(events: list[dict[str, object]], kept: list[bool]) -> None:
    with pytest.raises(SessionError, match="runs"):
        of_trace(events, kept, GEMM, GEMM, "net")


def test_what_runs_in_a_loops_body_is_the_loops_time() -> None:
    events = [event("a", "Add", 1, ts=1), event("b", "Mul", 2, ts=10), event("l", "Loop", 20, ts=5), RUN]
    found = of_trace(events, [True], GEMM, GEMM, "net")
    assert [(operator.kind, operator.macs) for operator in found] == [("Add", 0), ("Loop", None)]


def test_padded_weights_are_counted_as_the_file_has_them() -> None:
    original = Graph(
        nodes=(
            Node(name="c", op="Conv", domain="", inputs=("x", "features.2.conv.0.weight"), outputs=("v",)),
            Node(name="a", op="Clip", domain="", inputs=("v",), outputs=("w",)),
        ),
        weights={"features.2.conv.0.weight": Weight(shape=(24, 3, 3, 3), size_bytes=2592)},
    )
    optimised = Graph(
        nodes=(Node(name="w_nchwc", op="Conv", domain="com.microsoft.nchwc", inputs=("x", "r"), outputs=("z",)),),
        weights={"r": Weight(shape=(32, 3, 3, 3), size_bytes=3456)},
    )
    shapes = {"output_type_shape": [{"float": [1, 32, 5, 5]}]}
    (operator,) = of_trace([event("w_nchwc", "Conv", 3, **shapes), RUN], [True], optimised, original, "net")
    assert operator.macs == 5 * 5 * 24 * 27 and operator.kind == "Conv 3x3"
    assert operator.path == ("features", "2", "conv")


def test_the_module_comes_from_torchs_note_or_from_the_nodes_own_name() -> None:
    def path(node: Node) -> tuple[str, ...]:
        graph = Graph(nodes=(node,), weights={})
        return of_trace([event(node.name, node.op, 1), RUN], [True], graph, graph, "net")[0].path

    noted = Node(name="n", op="Add", domain="", inputs=(), outputs=("y",), scope=("blocks", "3"))
    assert path(noted) == ("blocks", "3")
    old = Node(name="/features/features.2/conv/conv.0/Conv", op="Conv", domain="", inputs=(), outputs=("y",))
    assert path(old) == ("features", "2", "conv", "0")


# The ONNX file


def test_a_graph_is_read_as_the_onnx_package_reads_it(tiny_onnx: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs mobench[export]")
    model, graph = onnx.load(str(tiny_onnx)), onnx_graph.read(tiny_onnx)
    assert [(n.name, n.op, n.inputs, n.outputs) for n in graph.nodes] == [
        (n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node
    ]
    for initializer in model.graph.initializer:
        weight = graph.weights[initializer.name]
        assert weight.shape == tuple(initializer.dims)
        assert weight.size_bytes == onnx.numpy_helper.to_array(initializer).nbytes


def test_torchs_note_and_constants_are_read(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs mobench[export]")
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="r")
    entry = node.metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'net', 'net.4', 'relu']"
    constant = onnx.helper.make_node(
        "Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.ones((2, 5), np.int8))
    )
    graph = onnx.helper.make_graph([constant, node], "g", [], [])
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    read = onnx_graph.read(path)
    assert read.nodes[1].scope == ("net", "4") and read.weights["c"] == Weight(shape=(2, 5), size_bytes=10)


@pytest.mark.parametrize("content", [b"", b"\x3a\xff\x01", b"\x00\xff\xff\xff", b"\x07", b"\xff" * 12])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        onnx_graph.read(path)


@pytest.mark.parametrize("int8", [False, True])
def test_the_matrix_product_that_is_written_is_one(int8: bool, tmp_path: Path) -> None:
    import onnxruntime

    size, rng = 16, np.random.default_rng(0)
    weights = rng.integers(-9, 9, (size, size), np.int8) if int8 else rng.random((size, size), np.float32)
    model = onnx_graph.write_matmul(size, weights.tobytes(), int8=int8)
    x = rng.integers(0, 2, (size, size), np.uint8) if int8 else rng.random((size, size), np.float32)
    (y,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    expected = np.clip(x.astype(int) @ weights.astype(int), 0, 255) if int8 else x @ weights
    np.testing.assert_allclose(y, expected, rtol=1e-5)


# XNNPACK's operators and TFLite's nodes


def test_nodes_that_xnnpack_folds_are_left_out() -> None:
    kernels = [
        "Convert (NC)", "Convolution (NHWC, QC8) IGEMM", "Convolution (NHWC, QC8) DWConv",
        "Fully Connected (NC, QS8, QC8W) GEMM", "Add (ND)", "Fully Connected (NC, QS8, QC8W) GEMM",
    ]  # fmt: skip
    nodes = ["QUANTIZE", "PAD", "CONV_2D", "PAD", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "RESHAPE", "FULLY_CONNECTED"]
    assert match(kernels, nodes) == [0, 2, 4, 5, 6, 8]


def test_an_operator_that_xnnpack_adds_belongs_to_no_node() -> None:
    kernels = ["Transpose (ND, X32)", "Fully Connected (NC, F32) GEMM", "Unheard Of (NC)"]
    assert match(kernels, ["CONV_2D", "SOFTMAX"]) == [None, 0, None]


@pytest.mark.parametrize("nodes", [["CONV_2D"], ["CONV_2D", "CONV_2D", "CONV_2D"], ["ADD", "MUL"]])
def test_where_the_convolutions_do_not_add_up_nothing_is_matched(nodes: list[str]) -> None:
    assert match(["Convolution (NHWC, F32) IGEMM"] * 2, nodes) == [None, None]


def node(op: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
    return {"op_name": op, "inputs": np.array(inputs), "outputs": np.array(outputs)}


def tensor(name: str, *shape: int, dtype: type = np.float32) -> dict[str, object]:
    return {"name": name, "shape": np.array(shape), "dtype": dtype}


SPLIT = [
    node("CONV_2D", [0, 10], [1]), node("CUSTOM", [1], [2]), node("ADD", [2, 2], [3]),
    node("DELEGATE", [0, 10], [1]), node("DELEGATE", [2], [3]),
]  # fmt: skip
TENSORS = {
    0: tensor("in", 1, 8, 8, 3),
    1: tensor("net/conv_1/Relu6;net/other", 1, 4, 4, 8),
    2: tensor("odd", 1, 4, 4, 8),
    3: tensor("out", 1, 4, 4, 8),
    10: tensor("net/conv_1/weights", 8, 3, 3, 3),
}


def test_a_graph_in_several_partitions_is_put_together() -> None:
    assert partitions(SPLIT) == [[0], [2]]
    run = [
        Event(label="Convolution (NHWC, F32) IGEMM", index=0, inside=True, ns=5),
        Event(label="CUSTOM", index=1, inside=False, ns=6),
        Event(label="Add (ND)", index=0, inside=True, ns=7),
    ]
    found, notes = of_litert([run, run], SPLIT, TENSORS, "net")
    assert [(o.kind, o.macs, o.ns) for o in found] == [
        ("CONV_2D 3x3", 4 * 4 * 8 * 27, (5, 5)), ("CUSTOM", None, (6, 6)), ("ADD", 0, (7, 7)),
    ]  # fmt: skip
    assert found[0].path == ("net", "conv_1") and found[0].moved_bytes == 4 * (192 + 216 + 128)
    assert found[1].kernel == "built-in kernel" and notes == ()


def test_what_cannot_be_told_apart_keeps_xnnpacks_names_and_is_noted() -> None:
    run = [Event(label="Convolution (NHWC, F32) IGEMM", index=index, inside=True, ns=5) for index in (0, 1)]
    found, notes = of_litert([run], SPLIT, TENSORS, "net")
    assert [(o.kind, o.macs, o.path) for o in found] == [("Convolution", None, ())] * 2
    assert notes == ("2 operators of XNNPACK could not be told apart: their MACs and blocks are unknown",)


def test_runs_that_differ_are_refused() -> None:
    runs = [[Event(label=label, index=0, inside=True, ns=1)] for label in ("Add (ND)", "Multiply (ND)")]
    with pytest.raises(SessionError, match="different operators"):
        of_litert(runs, SPLIT, TENSORS, "net")


def test_a_folded_border_moves_no_bytes_but_widened_weights_do() -> None:
    listed = [
        node("PAD", [0, 9], [1]), node("DEQUANTIZE", [10], [11]), node("CONV_2D", [1, 11], [2]),
        node("DELEGATE", [0, 10], [2]),
    ]  # fmt: skip
    tensors = {
        0: tensor("in", 1, 8, 8, 3), 9: tensor("border", 4, 2, dtype=np.int32), 1: tensor("padded", 1, 10, 10, 3),
        10: tensor("half", 8, 3, 3, 3, dtype=np.float16), 11: tensor("full", 8, 3, 3, 3), 2: tensor("out", 1, 8, 8, 8),
    }  # fmt: skip
    run = [Event(label="Convolution (NHWC, F32) IGEMM", index=0, inside=True, ns=5)]
    ((operator,), _) = of_litert([run], listed, tensors, "net")
    assert operator.moved_bytes == 4 * (8 * 8 * 3 + 8 * 27 + 8 * 8 * 8)


# Ceilings


def test_memory_rates_are_of_the_bytes_that_are_touched() -> None:
    began = time.monotonic()
    rates = stream.best_rates([1 << 14, 1 << 16], 2)
    assert len(rates) == 2 and all(1e8 < rate < 1e13 for rate in rates)
    assert time.monotonic() - began < 20


def test_ceilings_are_measured_in_both_runtimes_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_files, "SIZES", (64,))
    monkeypatch.setattr(ceilings, "WORKING_SETS", (1 << 14, 1 << 16))
    said: list[str] = []
    host = DesktopHost()
    first = ceilings.ceiling_for(host, 1, cache=tmp_path, tell=said.append)
    assert said == ["measuring this machine's ceilings with 1 thread, once"]
    assert set(first.macs_per_s) == set(first.reached_by) == {"fp32", "int8"}
    assert all(1e6 < rate < 1e15 for rate in first.macs_per_s.values())
    monkeypatch.setattr(ceilings, "measure", lambda *_: pytest.fail("measured again"))
    assert ceilings.ceiling_for(host, 1, cache=tmp_path, tell=said.append) == first
    assert len(said) == 1


def test_where_no_runtime_works_there_is_no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> Path:
        raise MissingExtraError("onnxruntime")

    monkeypatch.setattr(matmul_files, "write", missing)
    with pytest.raises(SessionError, match=r"onnxruntime is not installed.*mobench doctor"):
        ceilings.measure(DesktopHost(), Target(runtime=""))


def test_operators_are_records(onnx_model: Path) -> None:
    operators = profiled(artifacts.read(onnx_model), "ort").operators
    assert operators and all(isinstance(operator, Operator) for operator in operators)
