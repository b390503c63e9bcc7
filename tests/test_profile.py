"""What a profile says: groups, rates and shares of the ceiling, on made-up operators with exact numbers."""

import json
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from mobench.errors import BadInputError
from mobench.profile import roofline
from mobench.profile.operators import Overhead, blocks_of, doubts, lines, overhead
from mobench.profile.roofline import Ceiling
from mobench.records import Operator, Profile
from mobench.report.plots.profile import flame_figure, flame_plot, roofline_figure, roofline_plot

# 100 GMAC/s, and 50 GB/s for 1,000 bytes, 10 for a million.
CEILING = Ceiling(macs_per_s={"fp32": 100e9}, reached_by={"fp32": "ort"}, bytes_per_s=((1000, 50e9), (1_000_000, 10e9)))


def operator(kind: str, *path: str, ms: float = 1.0, macs: int | None = 0, moved: int | None = 1000) -> Operator:
    return Operator(
        name=f"{kind} {'.'.join(path)}",
        kind=kind,
        kernel=kind,
        path=path,
        precision="fp32",
        macs=macs,
        moved_bytes=moved,
        ns=tuple(round(ms * 1e6 * factor) for factor in (0.5, 1, 1, 1, 40)),
    )


def profile(*operators: Operator) -> Profile:
    return Profile(
        source="a test", tick_ns=1, plain_ns=(4_000_000,) * 3, profiled_ns=(5_000_000,) * 3, operators=operators
    )


NETWORK = profile(
    operator("Quantize"),
    operator("Conv 3x3", "0", ms=2, macs=100_000_000, moved=1_000_000),
    operator("Conv 1x1", "1", "expand", ms=3, macs=150_000_000, moved=500_000),
    operator("Conv 1x1", "1", "project", ms=1, macs=50_000_000, moved=500_000),
    operator("Add"),
)


def test_operators_of_a_kind_are_added_up_the_longest_first() -> None:
    first, second, *rest = lines(NETWORK, "operator", CEILING)
    assert (first.name, first.count, first.time_ms, first.share, first.macs) == ("Conv 1x1", 2, 4.0, 0.5, 200_000_000)
    assert first.gmacs_per_s == pytest.approx(50)
    assert first.gbytes_per_s == pytest.approx(0.25)
    assert first.of_ceiling == pytest.approx(0.5) and first.bound == "compute"
    assert (second.name, second.position) == ("Conv 3x3", 1)
    assert {line.name for line in rest} == {"Quantize", "Add"} and rest[0].gmacs_per_s is None


def test_blocks_stay_in_their_order_and_take_in_what_names_no_module() -> None:
    found = lines(NETWORK, "block", CEILING, {"1": "1 inverted"})
    assert [(line.name, line.count, line.time_ms) for line in found] == [("0", 2, 3.0), ("1 inverted", 3, 5.0)]
    assert sum(line.share for line in found) == pytest.approx(1)


def test_every_operator_is_a_layer() -> None:
    found = lines(NETWORK, "layer", CEILING)
    assert [line.position for line in found][:2] == [2, 1] and len(found) == 5
    assert found[0].block == "1" and found[0].kind == "Conv 1x1"


@pytest.mark.parametrize(
    ("paths", "blocks"),
    [
        (["features.0", "features.1.conv", "features.1", "head"], ["features.0", "features.1", "features.1", "head"]),
        (["net.layer1.0.conv1", "net.layer1.1", "net.fc"], ["layer1.0", "layer1.1", "fc"]),
        (["MobilenetV2.expanded_conv_3.expand", "MobilenetV2.Conv"], ["expanded_conv_3", "Conv"]),
        (["MobilenetV2.expanded_conv_3.expand", "aspp0"], ["MobilenetV2.expanded_conv_3", "aspp0"]),
        (["V1.Conv2d_1_depthwise", "V1.Conv2d_1_pointwise", "Logits"], ["V1.Conv2d_1", "V1.Conv2d_1", "Logits"]),
        (["", ""], ["(no block)", "(no block)"]),
    ],
)  # fmt: skip
def test_a_block_is_the_outermost_numbered_module(paths: list[str], blocks: list[str]) -> None:
    assert blocks_of([operator("x", *filter(None, path.split("."))) for path in paths]) == blocks


def test_an_operator_is_bound_by_memory_where_moving_takes_longer_than_multiplying() -> None:
    few = operator("Gemm", "2", macs=1_000_000, moved=1_000_000, ms=0.2)
    (line,) = lines(profile(few), "operator", CEILING)
    assert line.bound == "memory" and line.of_ceiling == pytest.approx(0.5)  # 1 MB at 10 GB/s: 0.1 ms of 0.2


def test_the_bandwidth_is_that_of_the_largest_measured_size_an_operator_fills() -> None:
    assert CEILING.bandwidth(999_999) == 50e9 and CEILING.bandwidth(1_000_000) == 10e9 and CEILING.bandwidth(1) == 50e9
    # A larger size that came out faster shows that the smaller one was measured low.
    odd = replace(CEILING, bytes_per_s=((1000, 20e9), (2000, 30e9)))
    assert odd.bandwidth(1000) == 30e9


def test_what_is_unknown_stays_unknown() -> None:
    odd = profile(operator("Lstm", macs=None), operator("Copy", moved=None), operator("Conv 3x3", macs=10, moved=10))
    by_kind = {line.name: line for line in lines(odd, "operator", CEILING)}
    assert by_kind["Lstm"].of_ceiling is None and by_kind["Lstm"].macs is None and by_kind["Lstm"].bound == ""
    assert by_kind["Copy"].gbytes_per_s is None
    no_peak = lines(profile(replace(NETWORK.operators[1], precision="int8")), "operator", CEILING)
    assert no_peak[0].of_ceiling is None
    assert lines(NETWORK, "operator")[0].of_ceiling is None


def test_a_share_above_the_ceiling_is_shown_and_doubted() -> None:
    fast = profile(operator("Conv 1x1", "0", ms=1, macs=200_000_000))
    found = lines(fast, "operator", CEILING)
    assert found[0].of_ceiling == pytest.approx(2)
    near = Overhead(plain_ms=1.0, profiled_ms=1.1, operators_ms=1.1)
    assert doubts(found, near) == [
        "above the ceiling: Conv 1x1 200 %: the ceiling is too low, or such short times too coarse; --remeasure"
    ]
    assert doubts(lines(NETWORK, "operator", CEILING), near) == []


@pytest.mark.parametrize(("operators_ms", "told"), [(0.8, True), (0.9, False), (1.1, False), (1.2, True)])
def test_operators_that_do_not_add_up_to_the_latency_are_doubted(operators_ms: float, told: bool) -> None:
    said = doubts([], Overhead(plain_ms=1.0, profiled_ms=1.0, operators_ms=operators_ms))
    assert [line.startswith("the operators do not add up") for line in said] == [True] * told


def test_the_profilers_cost_is_said() -> None:
    found = overhead(NETWORK)
    assert (found.plain_ms, found.profiled_ms, found.operators_ms) == (4.0, 5.0, 8.0)
    assert "+25 %" in found.sentence() and "200 % of 4.00" in found.sentence()


def test_a_ceiling_is_kept_for_its_machine_threads_and_versions_only(tmp_path: Path) -> None:
    machine = {"cpu": "X", "cores": 2, "load": 7}
    key = roofline.key_of(machine, 1, (1,), {"onnxruntime": "1"})
    assert roofline.load(key, tmp_path) is None
    roofline.save(key, CEILING, tmp_path)
    assert roofline.load(key, tmp_path) == CEILING
    assert roofline.load(roofline.key_of({**machine, "load": 8}, 1, (1,), {"onnxruntime": "1"}), tmp_path) == CEILING
    for other in (
        roofline.key_of({**machine, "cpu": "Y"}, 1, (1,), {"onnxruntime": "1"}),
        roofline.key_of(machine, 2, (1,), {"onnxruntime": "1"}),
        roofline.key_of(machine, 1, (1,), {"onnxruntime": "2"}),
    ):
        assert roofline.load(other, tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "{}", '{"key": 1, "ceiling": {}}', '{"ceiling": []}'])
def test_a_damaged_cache_is_as_none(content: str, tmp_path: Path) -> None:
    key = roofline.key_of({}, 1, (), {})
    roofline.save(key, CEILING, tmp_path)
    roofline.cache_path(key, tmp_path).write_text(content)
    assert roofline.load(key, tmp_path) is None


def test_a_cache_for_other_contents_under_the_same_name_is_not_believed(tmp_path: Path) -> None:
    key = roofline.key_of({}, 1, (), {})
    roofline.save(key, CEILING, tmp_path)
    path = roofline.cache_path(key, tmp_path)
    stored = json.loads(path.read_text())
    stored["key"]["threads"] = 3
    path.write_text(json.dumps(stored))
    assert roofline.load(key, tmp_path) is None


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ceilings").write_text("a file where a folder is due")
    with pytest.raises(BadInputError, match="MOBENCH_CACHE"):
        roofline.save(roofline.key_of({}, 1, (), {}), CEILING, tmp_path)


def many_kinds() -> Profile:
    kinds = [f"CONV_2D {n}x{n}" for n in range(1, 9)]
    return profile(
        *(
            operator(kind, str(block), ms=0.2 + 0.05 * index, macs=10_000_000 * (index + 1), moved=400_000 + block)
            for block in range(12)
            for index, kind in enumerate(kinds)
        )
    )


@pytest.mark.parametrize("width_in", [3.5, 7.0])
@pytest.mark.parametrize("shown", [NETWORK, many_kinds()], ids=["few", "many"])
def test_the_rooflines_labels_cover_neither_each_other_nor_the_kinds_points(shown: Profile, width_in: float) -> None:
    figure = roofline_figure(shown, CEILING, title="net", width_in=width_in)
    (axes,) = figure.axes
    texts = [text for text in axes.texts if text.get_gid() == "label"]
    boxes = [text.get_window_extent() for text in texts]
    assert len(texts) == len({o.kind for o in shown.operators if o.macs})
    assert not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]
    roofs = [text.get_window_extent() for text in axes.texts if text.get_gid() == "roof" and not text.get_rotation()]
    assert roofs and not [1 for a in boxes for b in roofs if a.overlaps(b)]
    for line in axes.lines:
        if line.get_gid() == "kind":
            x, y = axes.transData.transform(line.get_xydata())[0]
            assert not [1 for box in boxes if box.contains(x, y)]
    frame = axes.get_window_extent()
    assert all(frame.x0 - 1 <= box.x0 and box.x1 <= frame.x1 + 1 for box in boxes)


def test_the_roofline_holds_every_operator_and_its_ceilings() -> None:
    axes = roofline_figure(NETWORK, CEILING).axes[0]
    layers = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_gid() == "layer"]
    assert sorted(layers) == [pytest.approx([x, 50]) for x in (100, 100, 300)]
    roofs = [line.get_xydata().tolist() for line in axes.lines if line.get_gid() == "roof"]
    assert len(roofs) == 3 and max(y for roof in roofs for _, y in roof) == pytest.approx(100)
    assert roofs[0][1] == pytest.approx([2, 100])  # 50 GB/s reach 100 GMAC/s at 2 MACs a byte
    assert axes.get_xlim()[0] < 2


@pytest.mark.parametrize("shown", [NETWORK, many_kinds()], ids=["few", "many"])
def test_the_flame_charts_bars_are_the_times_and_names_stay_inside(shown: Profile) -> None:
    figure = flame_figure(shown, names={"1": "1 inverted"})
    (axes,) = figure.axes
    rows: dict[float, list[tuple[float, float]]] = {}
    for bar in axes.patches:
        rows.setdefault(bar.get_y(), []).append((bar.get_x(), bar.get_x() + bar.get_width()))
    total = overhead(shown).operators_ms
    assert len(rows) == 3
    for bars in rows.values():
        assert bars[0][0] == 0 and bars[-1][1] == pytest.approx(total)
        assert all(a[1] == pytest.approx(b[0]) for a, b in pairwise(bars))
    assert len(rows[0.0]) == len(shown.operators)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert boxes and not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_plots_are_written_the_same_each_time(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        roofline_plot(NETWORK, CEILING, tmp_path / f"roof-{name}{suffix}", title="net")
        flame_plot(NETWORK, tmp_path / f"flame-{name}{suffix}", title="net")
    for kind in ("roof", "flame"):
        first = (tmp_path / f"{kind}-a{suffix}").read_bytes()
        assert len(first) > 1000 and first == (tmp_path / f"{kind}-b{suffix}").read_bytes()


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(BadInputError, match="MACs"):
        roofline_figure(profile(operator("Add")), CEILING)
    with pytest.raises(BadInputError, match="took any time"):
        flame_figure(profile(operator("Add", ms=0)))
