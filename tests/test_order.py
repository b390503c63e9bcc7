"""Two devices' orders of networks: correlations, inverted pairs beyond noise, predictors, names, and the verb."""

from __future__ import annotations

import csv
import io
import json
import math
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_runs import Latency, make_run, spread
from scipy.stats import spearmanr

from mobench import store
from mobench.claims.journals import journal_places
from mobench.claims.places import TablePlace, table_places
from mobench.claims.ranks import inverted, rank
from mobench.claims.values import Value
from mobench.cli.order import command
from mobench.errors import BadInputError
from mobench.order import (
    TOLERANCE,
    Device,
    contrasts,
    counts,
    devices,
    facing,
    find,
    order,
    predictors,
)
from mobench.records import Run

LOGS = (0.0, 0.004, -0.003, 0.002, -0.004)  # how five starts differ


@pytest.fixture(autouse=True)
def nothing_measured_here(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --results the verb reads the folder results: of an empty folder, not of the repository."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def timed(path: Path, factors: dict[str, float | Latency], **fields: Any) -> Run:
    """Return a campaign of cells named `network`, `network:int8` with their latencies over 10 ms."""
    artifact = {}
    for name in factors:
        network, _, precision = name.partition(":")
        artifact[name] = {
            "name": network,
            "precision": precision or "fp32",
            "network": {"name": network, "label": network, "family": "a paper's"},
        }
    latencies = {name: spread(f, LOGS) if isinstance(f, float) else f for name, f in factors.items()}
    return make_run(path, latencies, artifact=artifact, **fields)


def public(words: str) -> Device:
    return find(devices(table_places()), words)


def table(cpu: dict[str, float], gpu: dict[str, float], share: float = 0.0) -> tuple[Device, Device]:
    """Return two devices of a made-up table; intervals are ``share`` of the figure each way, none where it is 0."""
    latencies = {
        (name, "fp32", where): Value(figure=ms, low=ms * (1 - share), high=ms * (1 + share))
        for where, column in (("cpu", cpu), ("gpu", gpu))
        for name, ms in column.items()
    }
    bare = frozenset(latencies) if not share else frozenset()
    names = {"cpu": "Phone, CPU", "gpu": "Phone, GPU"}
    place = TablePlace(
        kind="others", name="Phone", paper="", latencies=latencies, ranked=frozenset(latencies), names=names, bare=bare
    )
    a, b = devices([place])
    return a, b


def test_every_device_of_the_public_figures_is_there_once_with_its_evidence() -> None:
    known = devices(table_places())
    assert len({(device.name, device.precision) for device in known}) == len(known)
    kinds = {device.name: device.kind for device in known}
    assert kinds["MoGA table 3: Mi MIX 3 GPU, SNPE"] == kinds["MoGA table 3: Mi MIX 3 GPU, MACE"] == "others"
    assert kinds["Pixel 9 Pro, Android 15, LiteRT 2.2.0, GPU"] == "others"
    assert kinds["MobileNetV3 tables 3 and 4: Pixel 1, one big core, CPU"] == "printed"
    assert {device.precision for device in known if "Pixel 9" in device.name} == {"fp32", "int8", "int8-dynamic"}
    # Segmentation, and what the GPU took a few nodes of, take part in no order.
    assert not {"deeplabv3_resnet50", "vit_base_patch16_224"} & set(public("pixel 9 gpu").networks)
    assert all(device.networks for device in known)


def test_the_tolerance_for_figures_without_spread_is_what_public_sessions_spread() -> None:
    over = [
        value.high / value.figure
        for place in table_places()
        for key, value in place.latencies.items()
        if key not in place.bare
    ]
    assert len(over) > 100
    assert median(over) - 1 == pytest.approx(TOLERANCE, abs=0.005)


@pytest.mark.parametrize(("device", "turned", "sure"), [("pixel 9", 5, 1), ("galaxy", 4, 2), ("mac", 7, 5)])
def test_inversions_of_the_leaderboard(device: str, turned: int, sure: int) -> None:
    found = order(public(f"{device} cpu"), public(f"{device} gpu"))
    assert len(found.inversions) == turned
    assert len(found.beyond_noise) == sure
    # Beyond noise, counted another way: the sessions' 5th to 95th percentiles are disjoint on both processors.
    disjoint = 0
    for pair in found.inversions:
        sides = [(side.latency(pair.first), side.latency(pair.second)) for side in (found.a, found.b)]
        assert sides[0][0].figure < sides[0][1].figure and sides[1][0].figure > sides[1][1].figure
        disjoint += all(a.high < b.low or b.high < a.low for a, b in sides)
    assert disjoint == sure


def test_mogas_eight_networks_have_no_order_in_common_on_cpu_and_gpu() -> None:
    a, b = public("moga cpu"), public("moga snpe")
    found = order(a, b)
    place = next(place for place in table_places() if place.paper == "moga")
    assert len(found.networks) == 8 and found.pairs == 28
    assert found.networks[0] == "mobilenet_v3_large"
    assert found.correlation == rank(place, "cpu", "gpu")  # the very draws of `mobench claims`
    columns = [[side.latency(name).figure for name in found.networks] for side in (a, b)]
    assert found.correlation.figure == pytest.approx(spearmanr(*columns).statistic, abs=1e-9)
    assert len(found.inversions) == inverted(place, "cpu", "gpu").figure
    # V3-Large is faster on the CPU and slower on the GPU than V2, by more than the tolerance on both.
    assert ("mobilenet_v3_large", "mobilenet_v2") in {(pair.first, pair.second) for pair in found.beyond_noise}
    # MoGA-C and V3-Large are 1.4 % apart on the CPU: with no spread printed that is noise.
    (near,) = [pair for pair in found.inversions if {pair.first, pair.second} == {"moga_c", "mobilenet_v3_large"}]
    assert not near.beyond_noise
    assert near.ratio_a.low == pytest.approx(70.5 / 70.5 / (1 + TOLERANCE))
    assert near.ratio_a.high == pytest.approx(71.5 / 69.5 * (1 + TOLERANCE))


def test_figures_without_spread_have_the_tolerance_as_their_noise() -> None:
    a, b = table({"x": 1.0, "y": 1.04, "z": 2.0}, {"x": 3.0, "y": 2.0, "z": 1.0})
    sure = {(pair.first, pair.second) for pair in order(a, b).beyond_noise}
    assert sure == {("x", "z"), ("y", "z")}
    assert "within 5 % of 1" in a.noise
    a, b = table({"x": 1.0, "y": 1.04, "z": 2.0}, {"x": 3.0, "y": 2.0, "z": 1.0}, share=0.01)
    assert len(order(a, b).beyond_noise) == 3
    assert "one session" in a.noise


def test_journals_pair_their_rounds_and_two_campaigns_do_not(tmp_path: Path) -> None:
    cells: dict[str, float | Latency] = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.998, "mobilenet_v1": 2.0}
    turned: dict[str, float | Latency] = {"mobilenet_v2": 0.5, "mobilenet_v3_large": 0.6, "mobilenet_v1": 0.9}
    cpu = timed(tmp_path / "a.jsonl", cells, device="android-cpu")
    gpu = timed(tmp_path / "b.jsonl", turned, device="android-gpu")
    a, b = devices(journal_places([cpu, gpu]))
    assert (a.name, b.name) == ("Cortex-Z9, 8 cores, CPU litert, 1 thread", "Cortex-Z9, 8 cores, GPU litert")
    found = order(a, b)
    (pair,) = found.inversions
    assert (pair.first, pair.second, pair.beyond_noise) == ("mobilenet_v3_large", "mobilenet_v2", True)
    # Both cells' starts differ alike, so their ratio is exact; of two campaigns it is not, and 0.2 % is noise.
    assert pair.ratio_a.high - pair.ratio_a.low < 1e-6
    one = timed(tmp_path / "c.jsonl", {name: f for name, f in cells.items() if name != "mobilenet_v3_large"})
    two = timed(tmp_path / "d.jsonl", {"mobilenet_v3_large": 0.998})
    apart, *_ = devices(journal_places([one, two]))
    assert not order(apart, b).beyond_noise
    assert len(order(apart, b).inversions) == 1


def test_runtimes_threads_and_precisions_are_devices_of_their_own(tmp_path: Path) -> None:
    cells: dict[str, float | Latency] = {"mobilenet_v2": 1.0, "mobilenet_v2:int8": 0.5}
    runs = [
        timed(tmp_path / "a.jsonl", cells),
        timed(tmp_path / "b.jsonl", cells, target={name: {"threads": 2} for name in cells}),
        timed(tmp_path / "c.jsonl", cells, device="android-gpu"),
    ]
    known = devices(journal_places(runs))
    assert len(known) == 6  # two ways on the CPU and one on the GPU, in two precisions, each once
    assert find(known, "z9 1 thread").name == "Cortex-Z9, 8 cores, CPU litert, 1 thread"
    assert find(known, "2 threads int8").full_name == "Cortex-Z9, 8 cores, CPU litert, 2 threads, int8"
    with pytest.raises(BadInputError, match=r"2 fit; add words of the one meant: .*1 thread; .*2 threads"):
        find(known, "cpu")


def test_an_unknown_device_is_one_line_with_the_near_ones() -> None:
    known = devices(table_places())
    with pytest.raises(BadInputError, match=r"near: .*Pixel 9 Pro") as caught:
        find(known, "pixle 9 gpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInputError, match="no results of such a one in int8"):
        find(known, "moga cpu int8")
    with pytest.raises(BadInputError, match="no results of such a one"):
        find(known, " , ")
    with pytest.raises(BadInputError, match="lists what there is"):
        find([], "pixel")


def test_fewer_than_three_networks_in_common_are_named() -> None:
    a, b = table({"x": 1.0, "y": 2.0, "z": 3.0}, {"x": 1.0, "y": 2.0})
    with pytest.raises(BadInputError, match=r"Phone, CPU and Phone, GPU: 2 networks in common: x, y; 3 are needed"):
        order(a, b)


def test_few_networks_have_a_correlation_without_interval() -> None:
    a, b = table({"x": 1.0, "y": 2.0, "z": 3.0}, {"x": 1.0, "y": 3.0, "z": 2.0})
    found = order(a, b)
    assert found.correlation.figure == pytest.approx(0.5)
    assert math.isinf(found.correlation.low) and math.isinf(found.correlation.high)
    a, b = table({"x": 1.0, "y": 1.0, "z": 1.0}, {"x": 1.0, "y": 3.0, "z": 2.0})
    assert math.isnan(order(a, b).correlation.figure)  # one latency for all is no order
    assert order(a, b).inversions == ()


def test_predictors_count_the_pairs_they_order() -> None:
    gpu = public("moga snpe")
    macs, params, cpu = predictors(gpu, by=public("moga cpu"))
    assert [one.of for one in (macs, params, cpu)] == ["macs", "params", "latency"]
    assert macs.correlation.figure == pytest.approx(-0.26, abs=0.005)
    for one, known in ((macs, counts(gpu, "macs")), (params, counts(gpu, "params"))):
        right = 0.0
        for x, y in combinations(one.networks, 2):
            told, is_so = known[x].figure - known[y].figure, gpu.latency(x).figure - gpu.latency(y).figure
            right += 0.5 if told * is_so == 0 else float((told < 0) == (is_so < 0))
        assert (one.right, one.pairs) == (right, 28)
    found = order(public("moga cpu"), gpu)
    assert cpu.right == found.pairs - len(found.inversions) - 0.5 * _ties(found.a, found.b, found.networks)
    assert [one.of for one in found.predictors_a] == ["macs", "params"]
    assert found.predictors_b == (macs, params, cpu)


def _ties(a: Device, b: Device, networks: tuple[str, ...]) -> int:
    pairs = combinations(networks, 2)
    return sum(any(d.latency(x).figure == d.latency(y).figure for d in (a, b)) for x, y in pairs)


def test_each_cpu_faces_each_gpu_of_its_place_once() -> None:
    pairs = {(cpu.name, gpu.name) for cpu, gpu in facing(table_places())}
    pixel = "MoGA table 3: Pixel 1 CPU, TFLite"
    assert {gpu for cpu, gpu in pairs if cpu == pixel} == {
        "MoGA table 3: Mi MIX 3 GPU, SNPE",
        "MoGA table 3: Mi MIX 3 GPU, MACE",
    }
    assert len(pairs) == len(list(facing(table_places())))


def test_contrasts_say_where_cpu_and_gpu_are_opposite(tmp_path: Path) -> None:
    found = {(c.one, c.other, c.cpu.name, c.gpu.name if c.gpu else ""): c for c in contrasts(table_places())}
    large, v2 = ("mobilenet_v3_large", "fp32"), ("mobilenet_v2", "fp32")
    moga = found[large, v2, "MoGA table 3: Pixel 1 CPU, TFLite", "MoGA table 3: Mi MIX 3 GPU, SNPE"]
    assert moga.on_cpu is not None and moga.on_gpu is not None
    assert moga.on_cpu.figure == pytest.approx(70 / 78) and moga.on_gpu.figure == pytest.approx(10.8 / 6.9)
    assert moga.turned
    galaxy = "Galaxy S25 Ultra, Android 15, LiteRT 2.2.0"
    int8 = found[("mobilenet_v2", "int8"), v2, f"{galaxy}, CPU", f"{galaxy}, GPU"]
    assert int8.on_cpu is not None and int8.on_gpu is not None
    assert int8.on_cpu.high < 1 < int8.on_gpu.low and int8.turned
    pixel = "Pixel 9 Pro, Android 15, LiteRT 2.2.0"
    assert found[large, v2, f"{pixel}, CPU", f"{pixel}, GPU"].turned is None  # the GPU's interval straddles 1
    # Of ours a line stands also where only the CPU was timed, and is never opposite.
    ours = contrasts(journal_places([timed(tmp_path / "a.jsonl", {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8})]))
    assert [(c.gpu, c.on_gpu, c.turned) for c in ours] == [(None, None, None)]


def called(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_the_verb_alone_lists_devices_and_the_headline(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    timed(path, {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8})
    assert store.read(path).blocks
    done = called("--results", str(path))
    assert done.exit_code == 0
    for words in ("Cortex-Z9", "measured here", "measured by others", "printed", "CPU against GPU", "opposite"):
        assert words in done.output
    document = json.loads(called("--results", str(path), "--json").stdout)
    assert set(document) == {"devices", "CPU_against_GPU", "contrasts"}
    assert document["devices"][0] == {
        "device": "Cortex-Z9, 8 cores, CPU litert, 1 thread", "precision": "fp32", "networks": 2,
        "evidence": "measured here", "noise": "the 95 % interval of the paired ratio over starts", "source": None,
    }  # fmt: skip
    moga = [row for row in document["CPU_against_GPU"] if row["gpu"].endswith("SNPE")]
    assert [(row["networks"], row["evidence"]) for row in moga] == [(8, "measured by others")]
    rows = list(csv.DictReader(io.StringIO(called("--results", str(path), "--format", "csv").stdout)))
    assert [row["device"] for row in rows] == [row["device"] for row in document["devices"]]


def test_the_verb_with_two_devices_in_every_format(tmp_path: Path) -> None:
    names = ("moga cpu", "moga snpe")
    document = json.loads(called(*names, "--json").stdout)
    assert (document["pairs"], len(document["networks"]), document["a"]["evidence"]) == (28, 8, "measured by others")
    assert len(document["inverted_pairs"]) == document["inverted"]
    assert document["networks"][0]["p50_a_ci_ms"] is None  # no spread is printed, so none is shown
    text = called(*names).stdout
    assert "Rank correlation" in text and "noise: a ratio within 5 % of 1" in text and "arXiv:1908.01314" in text
    latex = called(*names, "--format", "latex").stdout
    assert latex.count("\\toprule") == 3 and "p50 ms" in latex and r"mobilenet\_v2" in latex
    assert r"measured by others" in latex
    assert called(*names, "--format", "md").stdout.count("| --- |") >= 1
    done = called(*names, "--plot", str(tmp_path / "slope.svg"))
    assert done.exit_code == 0 and (tmp_path / "slope.svg").read_text().startswith("<?xml")


def test_the_verb_with_one_device_tells_what_predicts_it(tmp_path: Path) -> None:
    done = called("mobilenetv2 code page", "--json", "--plot", str(tmp_path / "macs.pdf"))
    rows = json.loads(done.stdout)["predictors"]
    assert [row["by"] for row in rows] == ["MACs", "params"]
    assert rows[0]["correlation"] > 0.9 and rows[0]["pairs"] == 231
    assert (tmp_path / "macs.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pixle 9 gpu",), "near: "),
        (("pixel 9", "galaxy"), "2 fit"),
        (("pixel 9 cpu", "pixel 9 cpu"), "both names mean this device"),
        (("a", "b", "c"), "an order is of two"),
        (("galaxy cpu int8", "mac cpu int8"), "are needed"),
        (("--plot", "x.svg"), "nothing to draw without a device"),
        (("moga cpu", "moga snpe", "--plot", "x.gif"), "its suffix names no format"),
        (("--results", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = called(*arguments)
    assert isinstance(done.exception, BadInputError)
    assert said in str(done.exception) and "\n" not in str(done.exception)
