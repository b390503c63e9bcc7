"""The gate on campaigns of exact numbers: every status, its terms, and JUnit that others can read."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import MACHINE, make_run, spread

from mobench.errors import BadInputError
from mobench.records import Failure, Run
from mobench.verdicts.comparison import compare
from mobench.verdicts.gate import Case, Gate, Status, confidence, decide, judge, junit, rows
from mobench.verdicts.matching import Match

WIDE = (-0.04, -0.02, 0.0, 0.02, 0.04)


def matches(cells: dict[str, Any], **changes: Any) -> list[Match]:
    """Old cells are called old-NAME, new ones NAME, all of one campaign."""
    run = make_run(Path("j.jsonl"), cells, **changes)
    return [Match(one=run, a=f"old-{name}", other=run, b=name) for name in cells if not name.startswith("old-")]


def pair(name: str, factor: float, logs: tuple[float, ...] = ()) -> dict[str, Any]:
    return {f"old-{name}": spread(1.0), name: spread(factor, logs)}


def gate_of(*cases: Case, **terms: Any) -> Gate:
    return Gate(cases=cases, **{"tolerance": 0.03, "false_alarms": 0.01} | terms)


@pytest.mark.parametrize(
    ("factor", "logs", "tolerance", "status"),
    [
        (1.05, (), 0.03, "regression"),
        (1.05, (), 0.06, "passed"),
        (0.5, (), 0.03, "passed"),
        (1.02, (), 0.03, "passed"),  # slower for sure, and tolerated
        (1.05, WIDE, 0.03, "undecided"),
        (1.00, WIDE, 0.03, "undecided"),
    ],
)
def test_a_cell_falls_passes_or_is_undecided_by_its_whole_interval(
    factor: float, logs: tuple[float, ...], tolerance: float, status: str
) -> None:
    gate = decide(matches(pair("net", factor, logs)), tolerance=tolerance)
    assert [case.status for case in gate.cases] == [status]
    assert gate.fell == (status == "regression")


def test_the_false_alarms_are_shared_by_the_cells_that_are_compared() -> None:
    cells = pair("a", 1.0) | pair("b", 1.0) | {"old-c": None, "c": spread(1.0)}
    gate = decide(matches(cells), false_alarms=0.01)
    assert [case.comparison.confidence for case in gate.cases if case.comparison] == [0.99, 0.99]
    assert confidence(0.01, 1) == 0.98 and confidence(0.01, 0) == 0.98


def test_an_undecided_cell_says_how_much_longer_and_falls_only_strictly() -> None:
    found = matches(pair("net", 1.05, WIDE))
    assert decide(found).cases[0].why.startswith("about ")
    assert not decide(found).fell and decide(found, strict=True).fell
    few = matches(pair("net", 1.5), incarnations=4)
    assert decide(few).cases[0].why == "4 starts are too few to decide; about 5 s more"


def test_a_cell_that_ran_before_and_fails_now_makes_the_gate_fall() -> None:
    gate = decide(matches({"old-net": spread(1.0), "net": None}))
    assert gate.fell
    assert (gate.cases[0].status, gate.cases[0].why) == ("failed", "it ran before; now net: it does not load")


def test_what_has_no_counterpart_is_named_and_falls_only_strictly_when_it_is_gone() -> None:
    run = matches(pair("net", 1.0) | {"old-first": None, "first": spread(1.0)})
    gate = decide(run, gone=["lost"], new=["fresh"], unchanged=["same"])
    statuses = {case.name: case.status for case in gate.cases}
    assert statuses == {"net": "passed", "first": "new", "same": "unchanged", "fresh": "new", "lost": "gone"}
    assert not gate.fell
    assert decide(run, gone=["lost"], strict=True).fell
    assert not decide(run, new=["fresh"], unchanged=["same"], strict=True).fell
    assert gate.headline == "gate holds: 1 passed, 2 new, 1 unchanged, 1 gone (tolerance 3 %)"


def apart(**changes: Any) -> list[Match]:
    one = make_run(Path("one.jsonl"), {"net": spread(1.0)}, sha256={"net": "old"})
    other = make_run(Path("other.jsonl"), {"net": spread(1.0)}, sha256={"net": "new"}, **changes)
    return [Match(one=one, a="net", other=other, b="net")]


def test_p50_against_p50_is_refused_unless_asked_for() -> None:
    with pytest.raises(BadInputError) as refusal:
        decide(apart())
    assert str(refusal.value) == (
        "net against net: no other cell is in both campaigns, and p50 against p50 has no known rate of false alarms;"
        " time old and new in one campaign, or --unpaired"
    )
    gate = decide(apart(), unpaired=True)
    assert gate.cases[0].status == "passed"
    assert "what changed between campaigns (basis not paired) is not in that rate" in gate.rate


def test_another_machine_is_refused_unless_anyway() -> None:
    found = apart(machine=MACHINE | {"cores": 4})
    with pytest.raises(BadInputError, match="net and net cannot be compared: core count: 8 against 4"):
        decide(found, unpaired=True)
    comparison = decide(found, unpaired=True, anyway=True).cases[0].comparison
    assert comparison and [str(d) for d in comparison.differences] == ["core count: 8 against 4"]


def test_the_rate_is_stated_with_its_terms() -> None:
    gate = decide(matches(pair("net", 1.0)), tolerance=0.05, false_alarms=0.02)
    assert gate.rate == "where no cell is slower by more than 5 %, at most 2 % of gates fall by chance"


def run_with_a_regression() -> Run:
    return make_run(Path("j.jsonl"), pair("net", 1.05))


def regression() -> Case:
    run = run_with_a_regression()
    found = compare(Match(one=run, a="old-net", other=run, b="net"), confidence=0.98)
    assert found is not None
    return judge("net", found)


def test_junit_has_a_case_a_cell_and_is_read_back() -> None:
    names: dict[str, Status] = {
        "dead": "failed",
        "maybe": "undecided",
        "lost": "gone",
        "fresh": "new",
        "fine": "passed",
        "same": "unchanged",
    }
    others = [Case(name=name, status=status, why="a <reason> & more") for name, status in names.items()]
    text = junit(gate_of(regression(), *others))
    root = ET.fromstring(text.encode())
    suite = root.find("testsuite")
    assert root.tag == "testsuites" and suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7", "failures": "1", "errors": "1", "skipped": "3",
    }  # fmt: skip
    found = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert found == {
        "net": ["failure", "system-out"], "dead": ["error"], "maybe": ["skipped"], "lost": ["skipped"],
        "fresh": ["skipped"], "fine": [], "same": [],
    }  # fmt: skip
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert (failure.get("message"), failure.get("type")) == ("regression: slower by more than 3 %", "regression")
    said = suite.findtext("testcase/system-out")
    assert said == "ratio of latencies, net over old-net: 1.0500 [1.0500, 1.0500] at 98 %, paired, 5 starts"
    assert suite.find("testcase/error").get("message") == "failed: a <reason> & more"  # type: ignore[union-attr]
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties == {"tolerance": "0.03", "false_alarms": "0.01", "strict": "False"}


def test_junit_of_a_strict_gate_counts_what_made_it_fall() -> None:
    cases = (Case(name="maybe", status="undecided", why=""), Case(name="fresh", status="new", why=""))
    suite = ET.fromstring(junit(gate_of(*cases, strict=True)).encode()).find("testsuite")
    assert suite is not None and (suite.get("failures"), suite.get("skipped")) == ("1", "1")


def test_junit_survives_any_file_name() -> None:
    text = junit(gate_of(Case(name='a"<\x01&\u00e9\ud800.onnx', status="passed", why="")))
    case = ET.fromstring(text.encode()).find("testsuite/testcase")
    assert case is not None and case.get("name") == 'a"<?&\u00e9?.onnx'


def test_rows_hold_what_a_machine_wants() -> None:
    row = rows(gate_of(regression()))[0]
    assert row["ratio_ci"] == (pytest.approx(1.05), pytest.approx(1.05))
    assert (row["cell"], row["status"], row["fell"], row["confidence"], row["basis"], row["incarnations"]) == (
        "net", "regression", True, 0.98, "paired", 5,
    )  # fmt: skip


def test_what_runs_on_neither_side_makes_the_gate_fall() -> None:
    (case,) = decide(matches({"old-net": None, "net": None})).cases
    assert case.status == "failed" and "nor did it before" in case.why


def test_a_new_model_that_dies_on_the_way_is_failed_not_undecided() -> None:
    found = matches(pair("net", 1.0, WIDE))
    death = Failure(cell="net", incarnation=1, kind="session", what="net", why="killed by SIGSEGV", mend="")
    found = [replace(match, other=replace(match.other, failures=(death,))) for match in found]
    gate = decide(found)
    assert [case.status for case in gate.cases] == ["failed"] and gate.fell
    assert "SIGSEGV" in gate.cases[0].why
