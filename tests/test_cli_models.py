"""`mobench models`: the list, a network's card, its layers, and their JSON."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mobench import zoo
from mobench.cli.models import command
from mobench.errors import BadInputError
from mobench.zoo import catalogue, pretrained
from mobench.zoo.count import count


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def of(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def row(text, name):
    return next(line for line in text.splitlines() if name in line.split())


def test_json_lists_every_network_with_its_exact_counts():
    records = of()
    assert [record["name"] for record in records] == list(catalogue.ordered())
    for record in records:
        spec = zoo.get(record["name"])
        assert (record["params"], record["macs"]) == (count(spec).params, count(spec).macs)
        assert record["published_top1"] == spec.published_top1
        assert record["agrees"] == catalogue.agrees(spec)
        assert (record["printed"] is None) == (spec.printed is None)
        assert {"family", "paper", "source", "width", "depth", "input_size", "checkpoints"} <= record.keys()


def test_json_has_the_printed_figures_in_the_papers_digits():
    record = next(record for record in of() if record["name"] == "mobilenet_v3_large")
    assert record["printed"] == {
        "params": "5.4 M",
        "macs": "219 M",
        "source": "arXiv:1905.02244 table 3",
        "note": "216.6 M; the authors' code page prints 217 M",
    }
    assert record["agrees"] is False


def test_family_keeps_only_its_networks():
    names = [record["name"] for record in of("--family", "mobilenet_v3")]
    assert names[0] == "mobilenet_v3_large" and "mobilenet_v3_small_no_se" in names
    assert all(name.startswith("mobilenet_v3") for name in names)


def test_the_table_shows_a_network_a_line_with_print_beside_count_and_a_note():
    text = run().stdout
    line = row(text, "mobilenet_v3_large").split()
    assert line[1:8] == ["224", "5.48", "5.4", "M", "216.6", "219", "M"]
    assert line[9] == "75.2" and " ".join(line[10:13]) == "arXiv:1905.02244 table 3"
    assert f"{line[8]} 216.6 M; the authors' code page prints 217 M" in text.splitlines()
    assert row(text, "moga_a").split()[8] == row(text, "moga_a_figure").split()[8]  # one note for both
    assert "  mobilenet_v3_large_minimalistic" in text and "\nmobilenet_v3_small " in text


def test_a_narrow_terminal_tears_no_name(monkeypatch):
    monkeypatch.setattr("mobench.cli.terminal.width", lambda: 90)
    lines = run().stdout.splitlines()
    assert any(line.startswith("  mobilenet_v3_large_original_last_stage ") for line in lines)


def test_notes_are_numbered_from_one_and_each_is_under_the_table():
    lines = run().stdout.splitlines()
    used = [word for line in lines if not line.startswith("[") for word in line.split() if word.startswith("[")]
    under = [line.split()[0] for line in lines if line.startswith("[")]
    assert list(dict.fromkeys(used)) == under == [f"[{n}]" for n in range(1, len(under) + 1)]


def test_a_card_has_counts_print_variants_sizes_and_checkpoints():
    text = run("mobilenet_v2").stdout
    assert text.startswith("MobileNetV2")
    assert "3,504,872 (printed: 3.4 M)" in text and "300,774,272 (printed: 300 M)" in text
    assert "at most 6.02 MB live in FP32, 1.51 MB in INT8: block 2, depthwise, 112x112x96 to 56x56x96" in text
    assert row(text, "mobilenet_v2_1.4_224").split()[1:8] == ["224", "6.11", "6.9", "M", "582.2", "585", "M"]
    assert "IMAGENET1K_V2" in text and "published in" not in text
    assert "mobilenet_v3_small_minimalistic" in run("mobilenet_v3_small").stdout


def test_a_card_names_where_top1_is_printed_when_the_counts_are_elsewhere():
    line = row(run("resnet50").stdout, "resnet50_2.0_224")
    assert "arXiv:1905.11946 table 3" in line and "top-1:" not in line
    assert "arXiv:1905.02244v5 table 3; top-1: arXiv:1905.02244 table 3" in run("--family", "mobilenet_v3").stdout


def test_a_name_may_be_a_label_or_have_options():
    assert of("mobilenet_v1_0.5_160") == of("mobilenet_v1", "--width", "0.5", "--size", "160")
    deep = of("efficientnet_b0", "--depth", "4")
    assert deep["label"] == "efficientnet_b0_1.0_224_d4.0" and deep["printed"]["macs"] == "1.8 B"


def test_a_variants_card_names_its_network_and_its_fellows():
    found = of("mobilenet_v3_small_no_se")
    assert found["variant_of"] == "mobilenet_v3_small"
    assert found["variants"][:2] == ["mobilenet_v3_small", "mobilenet_v3_small_minimalistic"]
    assert all(name.startswith("mobilenet_v3_small") for name in found["variants"])
    assert found["checkpoints"] == [] and found["printed"] is None
    assert "no published checkpoint of it is known" in run("mobilenet_v3_small_no_se").stdout


def test_what_is_in_the_cache_is_marked(empty_cache):
    assert not any(each["cached"] for each in of("mobilenet_v2")["checkpoints"])
    assert row(run().stdout, "mobilenet_v2").split()[-1] == "published"
    checkpoint = pretrained.available(zoo.get("mobilenet_v2"))[-1]
    path = empty_cache / "weights" / checkpoint.file
    path.parent.mkdir()
    path.write_bytes(b"not looked at")
    assert [each["tag"] for each in of("mobilenet_v2")["checkpoints"] if each["cached"]] == [checkpoint.tag]
    assert row(run().stdout, "mobilenet_v2").split()[-1] == "cached"
    assert row(run().stdout, "mobilenet_v3_small").split()[-1] == "published"


def test_layers_are_every_operator_and_their_shares():
    found = of("mobilenet_v2", "--layers")
    assert sum(layer["params"] for layer in found["layers"]) == found["params"]
    assert sum(layer["macs"] for layer in found["layers"]) == found["macs"]
    assert sum(share["macs_share"] for share in found["shares"]) == pytest.approx(100)
    largest = max(found["layers"], key=lambda layer: layer["live_bytes"]["fp32"])
    assert largest == found["peak_at"]
    assert found["peak_activation_bytes"] == {"fp32": 6_021_120, "int8": 1_505_280}
    assert largest["output_bytes"] == {"fp32": 4 * 56 * 56 * 96, "int8": 56 * 56 * 96}


def test_the_layer_table_has_a_line_an_operator():
    lines = run("mobilenet_v3_small", "--layers").stdout.splitlines()
    # index, kind, operator, role, input, output, kernel, stride, activation, params, MACs, output, live
    words = [" ".join(line.split()) for line in lines]
    assert words[2] == "0 conv conv 224x224x3 112x112x16 3 2 hardswish 464 5.42 802.8 1404.9"
    assert words[3].startswith("1 inverted 1 8 depthwise depthwise 112x112x16 ")
    assert "se.scale scale 56x56x16 + 16 56x56x16" in words[7]
    blank = lines.index("")
    found = of("mobilenet_v3_small", "--layers")
    assert blank == 2 + len(found["layers"])
    most = found["shares"][0]
    assert words[blank + 3] == f"1x1 convolution 22 {most['macs_share']:.2f} {most['params_share']:.2f}"


def test_a_plain_block_has_no_expansion_and_a_gate_shows_as_the_activation():
    layers = of("se_resnet50", "--layers")["layers"]
    assert {layer["expansion"] for layer in layers} == {1.0}
    assert [layer["act"] for layer in layers if layer["name"] == "se.expand"] == ["sigmoid"] * 16
    assert {layer["se"] for layer in layers if layer["kind"] == "bottleneck"} == {16, 32, 64, 128}


@pytest.mark.parametrize("arguments", [("--layers",), ("--width", "0.5"), ("resnet50", "--family", "resnet")])
def test_wrong_usage_is_said(arguments):
    with pytest.raises(click.UsageError, match=r"name"):
        command.main(list(arguments), standalone_mode=False)


def test_an_unknown_name_is_answered_by_the_zoo():
    with pytest.raises(BadInputError, match=r"no network is named 'mobilenetv4'; did you mean"):
        run("mobilenetv4")


def test_it_works_where_torch_cannot_be_imported():
    for arguments in (["models", "--json"], ["models", "efficientnet_b7", "--layers", "--json"]):
        code = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {arguments}; from mobench.cli import main"
        done = subprocess.run([sys.executable, "-c", f"{code}; main()"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
