"""Float model files that are quantized as they stand: what is taken, what is refused, what they are held against."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exporters import given
from exporters.recipe import Given
from exporters.verify import tolerance
from mobench import artifacts
from mobench.errors import BadInputError, MobenchError
from mobench.exporting import export_networks

onnx = pytest.importorskip("onnx", reason="needs mobench[export]")


def channels_last(model: Path, path: Path) -> Path:
    """Put a Transpose before an ONNX file's input, as converters from TensorFlow do."""
    proto = onnx.load(model)
    source = proto.graph.input[0]
    inner, axes = source.name, [axis.dim_value for axis in source.type.tensor_type.shape.dim]
    made = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1, axes[2], axes[3], 3])
    proto.graph.input[0].CopyFrom(made)
    proto.graph.node.insert(0, onnx.helper.make_node("Transpose", ["pixels"], [inner], perm=[0, 3, 1, 2]))
    onnx.save(proto, path)
    return path


def test_float_files_are_quantized_and_verified_against_themselves(
    onnx_model: Path, tflite_model: Path, tmp_path: Path
) -> None:
    nhwc = channels_last(onnx_model, tmp_path / "nhwc.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    out = tmp_path / "out"
    things = [str(onnx_model), str(tflite_model), str(nhwc), str(broken)]
    told: list[str] = []
    outcomes = export_networks(
        things, precisions=("fp32", "fp16", "int8"), calibration_count=8, mean=(0.5,) * 3, out=out, talk=told.append
    )
    by_name = {outcome.path.name: outcome for outcome in outcomes}
    failed = {name for name, outcome in by_name.items() if outcome.error}
    assert failed == {f"broken-{precision}.onnx" for precision in ("fp32", "fp16", "int8")}
    assert sum("failed: ort cannot load or run broken.onnx" in line for line in told) == 1
    assert {path.name for path in out.iterdir() if path.suffix != ".json"} == set(by_name) - failed
    assert {"tiny-fp16.onnx", "tiny-int8.onnx", "tiny-fp16.tflite", "tiny-int8.tflite"} < set(by_name)
    for name, source, shape in (
        ("tiny-int8.onnx", onnx_model, [1, 3, 8, 8]),
        ("tiny-int8.tflite", tflite_model, [1, 8, 8, 3]),
        ("nhwc-int8.onnx", nhwc, [1, 8, 8, 3]),
    ):
        manifest = artifacts.read(out / name).manifest
        assert manifest["network"]["source"]["sha256"] == artifacts.sha256(source)
        assert manifest["input"]["shape"] == shape
        assert manifest["preprocess"]["mean"] == [0.5, 0.5, 0.5]
        assert manifest["verification"]["reference"] == f"{source.name} in its runtime"
        assert manifest["verification"]["snr_db"] > 20
    inputs = [value.name for value in onnx.load(out / "tiny-int8.onnx").graph.input]
    assert inputs == ["image"]  # its own name, whatever the quantizer calls it
    again = export_networks([str(onnx_model)], calibration_count=8, mean=(0.5,) * 3, out=out)
    assert [(outcome.precision, outcome.status) for outcome in again] == [("int8", "unchanged")]


def test_old_onnx_files_and_such_of_any_size_are_quantized_too(onnx_model: Path, tmp_path: Path) -> None:
    """Before IR version 4 a graph's constants had to be inputs too; others leave height and width open."""
    old, any_size = onnx.load(onnx_model), onnx.load(onnx_model)
    old.ir_version = 3
    old.graph.input.append(onnx.helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [3, 1000]))
    onnx.save(old, tmp_path / "old.onnx")
    for axis in any_size.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = "side"
    onnx.save(any_size, tmp_path / "any.onnx")
    things = [str(tmp_path / f"{name}.onnx") for name in ("old", "any")]
    precisions = ("fp16", "int8", "int8-dynamic")
    outcomes = export_networks(
        things, precisions=precisions, calibration_count=8, input_size=8, out=tmp_path / "out", jobs=1
    )
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert [value.name for value in onnx.load(outcomes[2].path).graph.input] == ["image"]
    with pytest.raises(MobenchError, match=r"\[1, 3, \?, \?\] is open"):
        export_networks(things[1:], calibration_count=8, out=tmp_path / "out")


def test_a_tflite_file_keeps_its_signature_or_has_none(tflite_model: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    def names(content: bytes) -> list[tuple[bytes, bytes]]:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        return [(each.signatureKey, each.inputs[0].name) for each in model.signatureDefs or ()]

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite_model.read_bytes()))
    model.signatureDefs[0].signatureKey, model.signatureDefs[0].inputs[0].name = b"classify", b"pixels"
    own = tflite_model.with_name("own.tflite")
    own.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    content, restore = given.read(Given(path=own, input="pixels", layout="NHWC"), "tflite")
    assert names(content) == [(b"serving_default", b"args_0")]
    assert names(restore(content)) == [(b"classify", b"pixels")]
    model.signatureDefs = []
    own.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    content, restore = given.read(Given(path=own, input="pixels", layout="NHWC"), "tflite")
    assert (names(content), names(restore(content))) == ([(b"serving_default", b"args_0")], [])


def test_images_reach_a_quantizer_in_the_files_own_layout() -> None:
    images = np.arange(2 * 5 * 5 * 3, dtype=np.float32).reshape(2, 5, 5, 3)
    odd: Any = SimpleNamespace(format="onnx", channels_last=True)
    np.testing.assert_array_equal(given.calibration(odd, images)[1].transpose(2, 0, 1), images[1])  # as ONNX's feeds it
    odd = SimpleNamespace(format="tflite", channels_last=False)
    np.testing.assert_array_equal(given.calibration(odd, images)[1], images[1].transpose(2, 0, 1))


def test_files_that_are_not_float_or_not_whole_are_refused(onnx_model: Path, tmp_path: Path) -> None:
    proto = onnx.load(onnx_model)
    path = tmp_path / "net.onnx"
    file = Given(path=path, input="image", layout="NCHW")
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(BadInputError, match="its weights lie in another file"):
        given.read(file, "onnx")
    proto = onnx.load(onnx_model)
    proto.graph.node[0].op_type = "QLinearConv"
    onnx.save(proto, path)
    with pytest.raises(BadInputError, match=r"it is quantized already \(QLinearConv\); give the float model"):
        given.read(file, "onnx")


def test_nothing_passes_for_int8_that_holds_no_integer_weights(tflite_model: Path, tmp_path: Path) -> None:
    """Older converters give float tensors quantization parameters without a scale, and some give them no names."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    from exporters.integers import has_integer_weights

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite_model.read_bytes()))
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.min, tensor.quantization.max = [], [0.0], [1.0]
        tensor.name = b""
    path = tmp_path / "old.tflite"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    both = ("int8", "int8-dynamic")
    outcomes = export_networks([str(path)], precisions=both, calibration_count=8, out=tmp_path / "out")
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert all(has_integer_weights(outcome.path.read_bytes(), "tflite") for outcome in outcomes)
    assert not has_integer_weights(path.read_bytes(), "tflite")

    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["scores"]),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 3, 8, 8]), ("scores", [1, 3]))
    ]
    graph = onnx.helper.make_graph(nodes, "mean", ends[:1], ends[1:])
    bare = tmp_path / "bare.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), bare)
    found = export_networks([str(bare)], precisions=both, calibration_count=8, out=tmp_path / "out")
    assert [str(outcome.error) for outcome in found] == [
        f"bare-{precision}.onnx: nothing in it could be quantized;"
        " it has no layers that a quantizer knows: convolutions, fully connected ones"
        for precision in both
    ]
    assert not list((tmp_path / "out").glob("bare*"))


def test_a_branch_of_an_onnx_file_may_read_its_input(tmp_path: Path) -> None:
    make = onnx.helper
    image = make.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    out = make.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
    branch = make.make_graph([make.make_node("Relu", ["image"], ["out"])], "branch", [], [out])
    nodes = [
        make.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch),
        make.make_node("GlobalAveragePool", ["chosen"], ["pooled"]),
        make.make_node("Flatten", ["pooled"], ["scores"]),
    ]
    scores = make.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 3])
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    path = tmp_path / "branch.onnx"
    graph = make.make_graph(nodes, "branches", [image], [scores], [yes])
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=8), path)
    content, restore = given.read(Given(path=path, input="image", layout="NCHW"), "onnx")
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert onnx.load_from_string(content).graph.node[0].attribute[0].g.node[0].input == ["input"]
    assert onnx.load_from_string(restore(content)) == onnx.load(path)


def test_a_file_of_random_weights_is_held_to_their_bound(onnx_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "net-fp32.onnx"
    path.write_bytes(onnx_model.read_bytes())
    manifest = {
        "sha256": artifacts.sha256(path),
        "precision": "fp32",
        "network": {"name": "net", "label": "net"},
        "preprocess": {"size": 8, "mean": [0, 0, 0], "std": [1, 1, 1]},
        "weights": {"kind": "random", "source": "random:0"},
    }
    artifacts.write_manifest(path, manifest)
    (outcome,) = export_networks([str(path)], calibration_count=8, out=tmp_path / "out")
    assert outcome.manifest["verification"]["tolerance"]["min_snr_db"] == tolerance("int8", trained=False).min_snr_db
    manifest["weights"] = {"kind": "pretrained", "source": "somewhere"}
    artifacts.write_manifest(path, manifest)
    (outcome,) = export_networks([str(path)], calibration_count=8, out=tmp_path / "out")
    assert outcome.manifest["verification"]["tolerance"]["min_snr_db"] == tolerance("int8", trained=True).min_snr_db


def test_a_file_is_told_what_does_not_apply_to_it(onnx_model: Path, shared: Path) -> None:
    with pytest.raises(BadInputError, match="in FP32: that is the file itself"):
        export_networks([str(onnx_model)], precisions=["fp32"])
    with pytest.raises(BadInputError, match="a file keeps its format"):
        export_networks([str(onnx_model)], formats=["tflite"])
    with pytest.raises(BadInputError, match=r"--size 64 for tiny.onnx: it reads 8 pixels"):
        export_networks([str(onnx_model)], input_size=64)
    with pytest.raises(BadInputError, match="its input is uint8: it is quantized already"):
        export_networks([str(shared / "data" / "models" / "mobilenet_v1_0.25_128_quant.tflite")])
    with pytest.raises(MobenchError, match="PosenetDecoderOp"):
        export_networks([str(shared / "data" / "models" / "posenet_custom_op.tflite")])
