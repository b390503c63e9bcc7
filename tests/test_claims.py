"""The claims' language, figures with intervals, and the book: what is in it, and what a malformed entry does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobench.claims import book, functions
from mobench.claims.check import judge
from mobench.claims.language import MOST_DEPTH, GrammarError, parse
from mobench.claims.places import printed_figures, table_places
from mobench.claims.values import Truth, Value, both, combine, compare, either, exact, opposite
from mobench.errors import BadInputError
from mobench.zoo.count import count
from mobench.zoo.spec import get

ENTRY = """
[[claim]]
id = "mine.{name}"
paper = "v2"
table = "table 4"
basis = "read"
kind = ["latency"]
says = "Something."
test = '{test}'
"""


def holds(text: str) -> str:
    tree = parse(text)
    functions.check(tree)
    return functions.truth(tree, None).holds


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1 + 2 * 3 < 7.1", "yes"),
        ("(1 + 2) * 3 < 7.1", "no"),
        ("8 - 2 - 1 <= 5", "yes"),
        ("8 / 2 / 2 > 1.9", "yes"),
        ("-1 < 0 and not 1 < 0", "yes"),
        ("1 < 0 or 2 < 1 or 0 < 1", "yes"),
        ("1 < 0 and 1 < 2 or 0 < 1", "yes"),
        ("0 < 1 <= 1 < 1.5", "yes"),
        ("0 < 1 < 1", "no"),
        ("near(102, 100, 0.02)", "yes"),
        ("near(103, 100, 0.02)", "no"),
        ("near(97.9, 100, 0.02)", "no"),
        ("1e6 < macs(mobilenet_v1)", "yes"),
        ("peak(mobilenet_v2) >= 112 * 112 * (96 + 16)", "yes"),
        ("printed(v2.ssdlite.macs) < printed(v2.ssd.macs)", "yes"),
    ],
)
def test_expressions_mean_what_they_say(text: str, answer: str) -> None:
    assert holds(text) == answer


@pytest.mark.parametrize(
    ("text", "column", "word"),
    [
        ("macs(mobilenet_v9) > 1", 6, "mobilenet_v9"),
        ("1 < ratio(mobilenet_v2, mobilenet_v1, tpu)", 39, "tpu"),
        ("ratio(mobilenet_v2:int7, mobilenet_v1, cpu) < 1", 7, "int7"),
        ("speed(mobilenet_v2) > 1", 1, "speed"),
        ("macs(mobilenet_v2, mobilenet_v1) > 1", 1, "macs takes"),
        ("macs(mobilenet_v2)", 1, "comparison"),
        ("mobilenet_v2 > 1", 1, "no figure"),
        ("(1 < 2) + 1 < 3", 1, "figure"),
        ("1 < 2 < ", 9, "the end"),
        ("1 << 2", 4, "'<'"),
        ("1 < 2)", 6, "')'"),
        ("near(1, 2, 3", 13, "','"),
        ("1 == 1", 3, "'='"),
        ("", 1, "the end"),
        ("__import__(os) > 1", 1, "__import__"),
        ("printed(v2.nothing) > 1", 9, "v2.nothing"),
        ("share(nasnet_a_mobile, conv, macs) > 0", 7, "not in the zoo"),
        ("1.5x < 2", 1, "known"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str, column: int, word: str) -> None:
    with pytest.raises(GrammarError) as caught:
        functions.check(parse(text))
    assert str(caught.value).startswith(f"column {column}: ")
    assert word in str(caught.value)


@pytest.mark.parametrize("text", ["(" * 5000 + "1 < 2" + ")" * 5000, "-" * 5000 + "1 < 2", "not " * 5000 + "1 < 2"])
def test_deep_nesting_is_refused_not_run_into(text: str) -> None:
    assert MOST_DEPTH < 5000
    with pytest.raises(GrammarError):
        parse(text)


@given(st.text(alphabet="macsratio_v2(),<>=+-*/ 1.5andornot:é\n", max_size=60))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        functions.check(parse(text))
    except GrammarError:
        return


def test_a_comparison_holds_over_the_whole_interval_or_nowhere_or_is_open() -> None:
    value = Value(figure=0.98, low=0.95, high=1.01)
    assert compare(value, "<", exact(1.02)).holds == "yes"
    assert compare(value, "<", exact(0.95)).holds == "no"
    assert compare(value, ">", exact(0.95)).holds == "open"  # equality is possible
    assert compare(value, ">=", exact(0.95)).holds == "yes"
    open_ = compare(value, "<", exact(1.0))
    assert open_.holds == "open"
    assert open_.more == pytest.approx((0.03 / 0.02) ** 2)  # half as wide an interval takes four times the starts
    assert compare(Value(figure=1.0, low=0.9, high=1.1), "<", exact(1.0)).more == math.inf


def test_three_valued_logic() -> None:
    yes, no, open_, missing = (Truth(holds=holds) for holds in ("yes", "no", "open", "missing"))
    assert both([yes, open_]).holds == "open"
    assert both([open_, missing]).holds == "missing"
    assert both([missing, no]).holds == "no"  # whatever is missing, it does not hold
    assert either([no, open_]).holds == "open"
    assert either([open_, missing]).holds == "missing"
    assert either([missing, yes]).holds == "yes"
    assert [opposite(each).holds for each in (yes, no, open_, missing)] == ["no", "yes", "open", "missing"]


ends = st.floats(-5, 5).map(lambda x: round(x, 3))


@given(st.sampled_from("+-*/"), ends, ends, ends, ends, st.floats(0, 1), st.floats(0, 1))
def test_interval_arithmetic_holds_every_possible_result(
    op: str, a: float, b: float, c: float, d: float, s: float, t: float
) -> None:
    x, y = (Value(figure=min(p, q), low=min(p, q), high=max(p, q)) for p, q in ((a, b), (c, d)))
    one, other = x.low + s * (x.high - x.low), y.low + t * (y.high - y.low)
    if op == "/" and y.low <= 0 <= y.high:
        with pytest.raises(ZeroDivisionError):
            combine(op, x, y)
        return
    found = combine(op, x, y)
    result = {"+": one + other, "-": one - other, "*": one * other, "/": one / other if op == "/" else 0}[op]
    assert found.low - 1e-6 <= result <= found.high + 1e-6


def test_the_projects_own_claims_are_all_read() -> None:
    found = book.own()
    assert found.faults == ()
    assert len(found.claims) == len({claim.id for claim in found.claims}) == 79
    assert {claim.paper for claim in found.claims} == set(book.PAPERS)
    assert all(claim.id.partition(".")[0] == claim.paper for claim in found.claims)


def test_every_printed_figure_is_used_and_every_hypothesis_is_said_to_be_one() -> None:
    texts = " ".join(test.text for claim in book.own().claims for test in (*claim.tests, *claim.also))
    assert [name for name in printed_figures() if f"printed({name})" not in texts] == []
    assert {claim.id for claim in book.own().claims if claim.basis == "hypothesis"} == {
        "moga.wider_shallower",
        "moga.se_cost_gpu",
        "moga.hswish_cost_gpu",
    }


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ENTRY.format(name="x", test="macs(mobilenet_v9) > 1"), "no network is named 'mobilenet_v9'"),
        (ENTRY.format(name="x", test="1 <"), "column 4"),
        (ENTRY.format(name="x", test="1 < 2").replace("table 4", ""), "table is missing"),
        (ENTRY.format(name="x", test="1 < 2").replace("v2", "v8"), "paper 'v8' is not one of"),
        (ENTRY.format(name="x", test="1 < 2").replace("test", "tests"), "no field is named tests"),
        (ENTRY.format(name="x", test="1 < 2") + 'untestable = "no"', "needs a test, or else"),
        (ENTRY.format(name="x", test="1 < 2") + "also = 3", "also is neither"),
        (ENTRY.format(name="x", test="1 < 2").replace("says = ", "says "), "line 8"),
        (ENTRY.format(name="good", test="1 < 2"), "there twice"),
    ],
)
def test_a_malformed_entry_is_one_line_with_its_place_and_the_rest_is_read(entry: str, words: str) -> None:
    text = ENTRY.format(name="good", test="1 < 2") + entry + ENTRY.format(name="last", test="1 < 2")
    found = book.read(text, "claims.toml")
    assert [claim.id for claim in found.claims] == ["mine.good", "mine.last"]
    (fault,) = found.faults
    assert fault.startswith("claims.toml, entry at line 11: ")
    assert words in fault or words == "line 8"  # tomllib's own words, which differ by version
    assert "\n" not in fault


def test_what_stands_before_the_first_entry_is_named_too() -> None:
    found = book.read("rubbish = 1\n" + ENTRY.format(name="a", test="1 < 2"), "x.toml")
    assert [claim.id for claim in found.claims] == ["mine.a"]
    assert found.faults[0].startswith("x.toml, entry at line 1: ")


def test_a_claims_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("# nothing\n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("empty.toml", "binary.toml", "absent.toml"):
        with pytest.raises(BadInputError) as caught:
            book.open_book(tmp_path / name)
        assert name in str(caught.value)


def _claim(name: str) -> book.Claim:
    return next(claim for claim in book.own().claims if claim.id == name)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("v1.macs_in_pointwise", "confirmed"),
        ("v1.full_vs_separable", "confirmed"),
        ("v2.params_table", "confirmed"),
        ("v2.peak_memory", "refuted"),  # 401 KB at 16 bits
        ("eff.compound_vs_single", "refuted"),  # 1.45 to 1.58 B for 1.8 B
        ("eff.family_counts", "confirmed"),
        ("se.reduction_ratio", "confirmed"),
        ("v3.resolution_beats_width", "not testable"),
        ("v1.time_in_pointwise", "not measured"),
    ],
)
def test_verdicts_that_need_no_measurement(name: str, verdict: str) -> None:
    assert judge(_claim(name), ()).verdict == verdict


def test_counts_are_recomputed_another_way() -> None:
    """Shares and factors of MobileNetV1 from its rows by hand, not by the functions under test."""
    rows = [(32, 64, 112), (64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28), (256, 512, 14)]
    rows += [(512, 512, 14)] * 5 + [(512, 1024, 7), (1024, 1024, 7)]
    pointwise = sum(inp * out * side**2 for inp, out, side in rows)
    depthwise = sum(9 * inp * side**2 for inp, _, side in rows)
    stem, dense = 27 * 32 * 112**2, 1024 * 1000
    total = pointwise + depthwise + stem + dense
    assert total == count(get("mobilenet_v1")).macs
    assert judge(_claim("v1.macs_in_pointwise"), ()).findings[0].truth.seen[0].startswith(
        f"100 * share(mobilenet_v1, pointwise, macs) = {100 * pointwise / total:.6g}"
    )  # fmt: skip
    assert round(100 * stem / total, 2) == 1.91  # the paper prints 1.19


def test_the_tables_of_others_are_read_whole() -> None:
    rows = {key for place in table_places() for key in place.latencies}
    assert all(functions.is_known(network) for network, _, _ in rows)
    assert {where for _, _, where in rows} == {"cpu", "gpu", "gpu_other"}
    for place in table_places():
        for key, value in place.latencies.items():
            assert 0 < value.low <= value.figure <= value.high, (place.name, key)
