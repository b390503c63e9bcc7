"""Claims against campaigns of ours and figures of others: verdicts, what is missing, and the campaign that fills it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from made_runs import Latency, make_run, spread
from scipy.stats import spearmanr

from mobench import cli, store
from mobench.claims import book, check, plan, ranks
from mobench.claims.journals import JournalPlace, journal_places
from mobench.claims.language import parse
from mobench.claims.places import TablePlace, kind_for, table_places
from mobench.claims.ranks import rank
from mobench.claims.values import MissingError, Value, combine
from mobench.cli.claims import command
from mobench.errors import BadInputError
from mobench.records import Accuracy, Check, Run

LOGS = (0.0, 0.004, -0.003, 0.002, -0.004)  # how five starts differ


def claim(name: str) -> book.Claim:
    return next(each for each in book.own().claims if each.id == name)


def made(test: str, **fields: Any) -> book.Claim:
    found = book.Test(text=test, tree=parse(test))
    return replace(claim("v3.large_vs_v2"), tests=(found,), also=(), **fields)


def timed(
    path: Path, factors: dict[str, float | Latency], *, device: str = "desktop-cpu", threads: int = 1, **fields: Any
) -> Run:
    """Return a campaign of cells named `network`, `network:int8` with their latencies over 10 ms."""
    artifact = {}
    latencies = {}
    for name, factor in factors.items():
        network, _, precision = name.partition(":")
        artifact[name] = {
            "name": network,
            "precision": precision or "fp32",
            "network": {"name": network, "label": network, "family": "a paper's"},
        }
        latencies[name] = spread(factor, LOGS) if isinstance(factor, float) else factor
    target = {name: {"threads": threads} for name in factors}
    return make_run(path, latencies, artifact=artifact, target=target, device=device, **fields)


def verdicts(test: str, *runs: Run) -> list[str]:
    judged = check.judge(made(test), journal_places(runs))
    return [finding.verdict for finding in judged.findings]


def test_a_paired_ratio_of_one_campaign_decides(tmp_path: Path) -> None:
    run = timed(tmp_path / "a.jsonl", {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8})
    # Both cells' starts differ alike, so their ratio is known exactly: 0.8.
    assert verdicts("ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 0.801", run) == ["confirmed"]
    assert verdicts("ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 0.799", run) == ["refuted"]
    assert verdicts("ratio(mobilenet_v2, mobilenet_v3_large, cpu) > 1.24", run) == ["confirmed"]
    assert verdicts("order(cpu, mobilenet_v3_large, mobilenet_v2)", run) == ["confirmed"]
    assert verdicts("order(cpu, mobilenet_v2, mobilenet_v3_large)", run) == ["refuted"]


def test_an_interval_that_straddles_is_undecided_and_says_how_much_more(tmp_path: Path) -> None:
    noisy = spread(0.99, (0.05, -0.05, 0.02, -0.03, 0.01))
    run = timed(tmp_path / "a.jsonl", {"mobilenet_v2": spread(1.0), "mobilenet_v3_large": noisy})
    judged = check.judge(made("ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 1"), journal_places([run]))
    assert (judged.verdict, judged.by) == ("undecided", "ours")
    assert "times the starts would decide it" in judged.why


def test_two_campaigns_are_compared_by_their_medians_and_less_surely(tmp_path: Path) -> None:
    a = timed(tmp_path / "a.jsonl", {"mobilenet_v2": 1.0})
    b = timed(tmp_path / "b.jsonl", {"mobilenet_v3_large": 0.8})
    (place,) = journal_places([a, b])
    apart = place.ratio(("mobilenet_v3_large", "fp32", "cpu"), ("mobilenet_v2", "fp32", "cpu"))
    assert apart.figure == pytest.approx(0.8)
    assert apart.low < 0.797 < 0.803 < apart.high
    assert verdicts("ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 0.9", a, b) == ["confirmed"]


def test_the_newest_campaign_with_both_cells_counts(tmp_path: Path) -> None:
    cells = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8}
    old = timed(tmp_path / "a.jsonl", cells, started="2026-01-01T00:00:00+00:00")
    new = timed(tmp_path / "b.jsonl", cells | {"mobilenet_v3_large": 1.2}, started="2026-02-01T00:00:00+00:00")
    only = timed(tmp_path / "c.jsonl", {"mobilenet_v3_large": 0.1}, started="2026-03-01T00:00:00+00:00")
    assert verdicts("ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 1", new, old, only) == ["refuted"]


def test_a_newer_campaign_without_an_interval_does_not_unsay_an_older_one(tmp_path: Path) -> None:
    cells: dict[str, float | Latency] = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8}
    old = timed(tmp_path / "a.jsonl", cells, started="2026-01-01T00:00:00+00:00")
    thin = timed(tmp_path / "b.jsonl", cells, started="2026-02-01T00:00:00+00:00", incarnations=1)
    assert verdicts("ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 1", old, thin) == ["confirmed"]
    assert verdicts("ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 1", thin) == ["undecided"]
    (place,) = journal_places([old, thin])
    assert place.latencies["mobilenet_v2", "fp32", "cpu"].high < math.inf


def test_threads_and_machines_and_runtimes_are_places_of_their_own(tmp_path: Path) -> None:
    cells: dict[str, float | Latency] = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8}
    turned: dict[str, float | Latency] = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 1.2}
    one = timed(tmp_path / "a.jsonl", cells)
    two = timed(tmp_path / "b.jsonl", turned, threads=2)
    other = timed(tmp_path / "c.jsonl", turned, machine={"cpu": "Another", "cores": 4})
    places = journal_places([one, two, other])
    assert [place.threads for place in places] == [1, 2, 1]
    judged = check.judge(claim("v3.large_vs_v2"), [place for place in places if place.threads == 1])
    assert (judged.verdict, judged.by) == ("undecided", "ours")
    assert judged.why.startswith("places disagree: confirmed on Cortex-Z9")


def test_a_phones_cpu_and_gpu_are_one_place(tmp_path: Path) -> None:
    cells: dict[str, float | Latency] = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8}
    turned: dict[str, float | Latency] = {"mobilenet_v2": 0.5, "mobilenet_v3_large": 0.6}
    runs = [
        timed(tmp_path / "a.jsonl", cells, device="android-cpu"),
        timed(tmp_path / "b.jsonl", turned, device="android-gpu"),
    ]
    (place,) = journal_places(runs)
    assert place.devices == ("android-cpu", "android-gpu")
    judged = check.judge(claim("moga.v2_beats_v3_on_gpu"), [place])
    assert (judged.verdict, judged.by, judged.command) == ("confirmed", "ours", "")


def test_few_starts_wrong_outputs_and_software_gpus_decide_nothing(tmp_path: Path) -> None:
    cells: dict[str, float | Latency] = {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.5}
    test = "ratio(mobilenet_v3_large, mobilenet_v2, cpu) < 1"
    assert verdicts(test, timed(tmp_path / "a.jsonl", cells, incarnations=1, rounds=40)) == ["undecided"]
    run = timed(tmp_path / "b.jsonl", cells)
    wrong = Check(cell="mobilenet_v2", incarnation=0, reference="", n=1, snr_db=0, largest=1, top1=0, wrong="so")
    assert verdicts(test, replace(run, checks=(wrong,))) == []
    own = {"name": "mobilenet_v2", "precision": "fp32", "network": {"label": "mobilenet_v2", "family": "own"}}
    named = make_run(tmp_path / "d.jsonl", {"x": spread(1.0, LOGS)}, artifact={"x": own})
    assert journal_places([named, make_run(tmp_path / "e.jsonl", {"mobilenet_v2": spread(1.0, LOGS)})]) == ()
    software = timed(tmp_path / "c.jsonl", cells, got="OpenCL in software")
    assert verdicts(test, software) == []


def test_what_is_missing_is_named_with_the_command_that_measures_it(tmp_path: Path) -> None:
    run = timed(tmp_path / "a.jsonl", {"mobilenet_v2": 1.0})
    judged = check.judge(claim("v3.int8_gain_smaller_than_v2"), journal_places([run]))
    assert judged.verdict == "not measured"
    assert "mobilenet_v2 int8 on cpu" in judged.why
    assert judged.command == (
        "mobench export mobilenet_v2 mobilenet_v3_large --precision int8 --precision fp32"
        " && mobench run mobilenet_v2 mobilenet_v3_large --precision int8 --precision fp32"
    )
    assert check.judge(claim("v2.wide_beats_nasnet"), ()).command == ""  # the zoo does not have NASNet


def test_accuracy_claims_take_accuracies_of_the_same_images(tmp_path: Path) -> None:
    run = timed(tmp_path / "a.jsonl", {"mobilenet_v2": 1.0})

    def scored(name: str, precision: str, top1: float, data: str = "photos") -> Accuracy:
        ends = (top1 - 0.1, top1 + 0.1)
        return Accuracy(sha256=name + precision, name=name, precision=precision, runtime="ort", data=data, n=500,
                        top1=top1, top1_ci=ends, top5=top1, top5_ci=ends)  # fmt: skip

    scores = [
        scored("mobilenet_v3_large", "fp32", 75.0),
        scored("mobilenet_v3_large", "int8", 70.0),
        scored("mobilenet_v2", "fp32", 72.0),
        scored("mobilenet_v2", "int8", 71.0),
        scored("mobilenet_v2", "int8", 10.0, data="others"),
    ]
    judged = check.judge(claim("v3.int8_accuracy_drop"), journal_places([run], scores))
    assert (judged.verdict, judged.by) == ("confirmed", "ours")
    assert check.judge(claim("v3.int8_accuracy_drop"), journal_places([run], scores[:3])).verdict == "not measured"


def test_ours_go_before_others_and_others_before_print(tmp_path: Path) -> None:
    places = table_places()
    judged = check.judge(claim("v3.large_vs_v2"), places)
    assert (judged.verdict, judged.by) == ("confirmed", "others")
    assert judged.verdict_by("printed") == "confirmed"
    ours = journal_places([timed(tmp_path / "a.jsonl", {"mobilenet_v2": 1.0, "mobilenet_v3_large": 1.2})])
    judged = check.judge(claim("v3.large_vs_v2"), [*ours, *places])
    assert (judged.verdict, judged.by) == ("refuted", "ours")
    assert judged.verdict_by("others") == "confirmed"


def test_a_paper_is_no_witness_for_itself() -> None:
    moga = next(place for place in table_places() if place.paper == "moga")
    assert (kind_for(moga, "moga"), kind_for(moga, "v3")) == ("printed", "others")
    v3 = next(place for place in table_places() if place.paper == "v3")
    assert (kind_for(v3, "v3"), kind_for(v3, "mnas")) == ("printed", None)


def moga_table() -> TablePlace:
    return next(place for place in table_places() if place.paper == "moga")


def test_rank_correlations_are_those_of_scipy_and_of_the_papers_table() -> None:
    place = moga_table()
    assert rank(place, "cpu", "gpu").figure == pytest.approx(0.0, abs=0.005)
    assert rank(place, "cpu", "gpu_other").figure == pytest.approx(0.48, abs=0.005)
    assert rank(place, "gpu", "gpu_other").figure == pytest.approx(0.80, abs=0.01)
    macs = rank(place, "macs", "cpu")
    assert macs.figure == pytest.approx(0.95, abs=0.005)
    assert rank(place, "macs", "gpu").figure == pytest.approx(-0.26, abs=0.005)
    both = [(place.latencies[n, "fp32", "cpu"].figure, place.latencies[n, "fp32", "gpu"].figure) for n in macs.over]
    assert rank(place, "cpu", "gpu").figure == pytest.approx(spearmanr(both).statistic, abs=1e-9)


def test_a_correlation_less_itself_is_nothing_for_its_draws_are_shared() -> None:
    value = rank(moga_table(), "macs", "gpu")
    gap = combine("-", value, rank(moga_table(), "macs", "gpu"))
    assert (gap.low, gap.figure, gap.high) == (0, 0, 0)
    assert value.low < value.figure < value.high


def test_the_bootstrap_covers_the_truth_where_it_is_known() -> None:
    """Over samples of networks of a known rank correlation, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(7)
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's of a normal pair whose correlation is 0.7
    held = 0
    for _ in range(60):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=40).T
        drawn = {"cpu": np.exp(x), "gpu": np.exp(y)}
        latencies = {
            (f"n{i}", "fp32", where): Value(figure=value, low=value, high=value)
            for where, values in drawn.items()
            for i, value in enumerate(map(float, values))
        }
        place = TablePlace(kind="others", name="", paper="", latencies=latencies, ranked=frozenset(latencies))
        value = rank(place, "cpu", "gpu")
        held += value.low <= truth <= value.high
    assert 51 <= held <= 60  # 95 % of 60 is 57


def test_too_few_networks_give_no_correlation() -> None:
    galaxy = next(place for place in table_places() if place.name.startswith("Galaxy"))
    with pytest.raises(MissingError, match=f"5 networks with macs and cpu, {ranks.MIN_NETWORKS} are needed"):
        rank(galaxy, "macs", "cpu")


@pytest.mark.parametrize("device", ["desktop-cpu", "desktop-gpu", "android-gpu"])
def test_the_campaign_that_is_planned_decides_what_it_says(tmp_path: Path, device: str) -> None:
    judged = [check.judge(each, table_places()) for each in book.own().claims]
    made_plan = plan.plan(judged, device, most_files=30)
    assert len(made_plan.steps) > 10
    files = [name.replace(" ", ":") for step in made_plan.steps for name in step.new]
    assert len(files) == len(set(files)) <= 30
    cells: dict[str, float | Latency] = {name: 1.0 + i / 10 for i, name in enumerate(files)}
    kinds = (device.replace("-gpu", "-cpu"), device) if device.endswith("-gpu") else (device,)
    runs = [timed(tmp_path / f"{kind}.jsonl", cells, device=kind, rounds=3) for kind in kinds]
    places = journal_places(runs)
    for step in made_plan.steps:
        assert check.judge(claim(step.claim), places).verdict_by("ours"), step.claim
    again = plan.plan([check.judge(each, places) for each in book.own().claims], device)
    assert {step.claim for step in again.steps}.isdisjoint(
        step.claim for step in made_plan.steps
        if check.judge(claim(step.claim), places).verdict_by("ours") in ("confirmed", "refuted")
    )  # fmt: skip
    assert made_plan.commands[-1].startswith("mobench run ")
    assert ("--format onnx" in made_plan.commands[0]) == (device == "desktop-gpu")
    asked = [kind for kind in kinds if f"--device {kind}" in made_plan.commands[-1]]
    assert asked == ([] if device == "desktop-cpu" else [*kinds])  # which is what is timed unless asked otherwise
    assert all(f" {name.partition(':')[0]} " in made_plan.commands[-1] for name in files)


def test_an_independent_script_comes_to_the_same_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten claims from raw journals, with factors that confirm some, refute some and leave some open."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    import recount_claims

    names = {name for ratios in recount_claims.CLAIMS.values() for a, b, *_ in ratios for name in (a, b)}
    rng = np.random.default_rng(3)
    for number in range(4):
        folder = tmp_path / str(number)
        cells: dict[str, float | Latency] = {
            name: spread(float(rng.uniform(0.7, 1.4)), tuple(rng.normal(0, 0.05, 5))) for name in sorted(names)
        }
        cells["resnet152"] = spread(3.2 + number / 5, tuple(rng.normal(0, 0.05, 5)))
        timed(folder / "20260101T000000Z-desktop-cpu.jsonl", cells)
        mine = recount_claims.recount(folder)
        places = journal_places([store.read(folder / "20260101T000000Z-desktop-cpu.jsonl")])
        assert mine == {name: check.judge(claim(name), places).verdict_by("ours") for name in mine}
        assert len(mine) == 10 and len({*mine.values()}) > 1


def run_command(*arguments: str | Path) -> Result:
    """Run it; its exit status is the result's `return_value`."""
    texts = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, texts, catch_exceptions=False, standalone_mode=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, without results."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_judges_all_claims_without_any_results(folder: Path) -> None:
    done = run_command("--json")
    assert done.return_value == 0
    claims = json.loads(done.stdout)
    assert len(claims) == 79
    assert {each["verdict"] for each in claims} <= {*check.VERDICTS.values(), "not testable"}
    assert not any(each["ours"] for each in claims)
    table = run_command("--paper", "v3").stdout
    assert "v3.large_vs_v2" in table and "v1.dw_sep" not in table
    assert "17 claims: " in table


def test_a_document_has_the_sentence_and_the_whole_reason(folder: Path) -> None:
    text = run_command("--paper", "v1", "--format", "md").stdout
    assert "| v1.vs_vgg16 | It is 32 times smaller than VGG-16 and computes 27 times less. | confirmed |" in text
    assert "..." not in text and "params(vgg16) / params(mobilenet_v1)" in text


def test_a_claim_by_its_id_is_told_in_full_and_the_command_reads_our_journals(folder: Path) -> None:
    timed(folder / "results" / "a.jsonl", {"mobilenet_v2": 1.0, "mobilenet_v3_large": 0.8})
    (folder / "results" / "b.jsonl").write_text("rubbish\n")
    done = run_command("v3.large_vs_v2")
    assert done.return_value == 0
    assert "confirmed (ours, Cortex-Z9, 8 cores, CPU litert, 1 thread): ratio(" in done.stdout
    assert "undecided (others, Galaxy S25 Ultra" in done.stdout
    assert done.stderr.startswith("note: left out: ") and "b.jsonl" in done.stderr
    (each,) = json.loads(run_command("v3.large_vs_v2", "--json").stdout)
    assert (each["verdict"], each["by"], each["ours"]) == ("confirmed", "ours", "confirmed")
    assert json.loads(run_command("v3.large_vs_v2", "--json", "--threads", "2").stdout)[0]["by"] == "others"


def test_unknown_ids_and_malformed_files_are_one_line_and_the_rest_is_judged(folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"no claim has the id 'v3.large'.*v3.large_vs_v2"):
        run_command("v3.large")
    lines = ['[[claim]]\nid = "x.a"\n', '[[claim]]\nid = "x.b"\npaper = "x"\ntable = "-"\nbasis = "derived"\n']
    (folder / "mine.toml").write_text(lines[0] + lines[1] + 'kind = "arithmetic"\nsays = "So."\ntest = "1 < 2"\n')
    done = run_command("--claims", "mine.toml", "--json")
    assert done.return_value == 1
    assert [each["verdict"] for each in json.loads(done.stdout)] == ["confirmed"]
    assert done.stderr == "note: mine.toml, entry at line 1: claim x.a: paper is missing, or no text\n"


def test_the_plan_on_the_command_line(folder: Path) -> None:
    done = run_command("--plan", "--paper", "v3", "--most", "4")
    assert done.return_value == 0
    assert "mobench run mobilenet_v3_large" in done.stdout
    document = json.loads(run_command("--plan", "--device", "android-gpu", "--json").stdout)
    assert "--device android-cpu --device android-gpu" in document["commands"][-1]
    assert any(step["claim"] == "moga.v2_beats_v3_on_gpu" for step in document["claims"])


def test_the_plan_is_run_command_by_command_until_one_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def main(arguments: list[str], standalone_mode: bool) -> int:
        ran.append(arguments)
        return 0 if len(ran) < 2 else 3

    monkeypatch.setattr(cli.cli, "main", main)
    options = ("--plan", "--run", "--paper", "v3", "--most", "4", "--random", "--budget", "7")
    done = run_command(*options)
    assert done.return_value == 3
    assert [arguments[0] for arguments in ran] == ["export", "run"]
    assert ran[0][-4:] == ["--weights", "random", "--format", "tflite"]
    assert ran[1][-2:] == ["--budget", "7"]
    with pytest.raises(click.UsageError):
        run_command("--run")


def test_a_place_satisfies_the_protocol(tmp_path: Path) -> None:
    (place,) = journal_places([timed(tmp_path / "a.jsonl", {"mobilenet_v2": 1.0})])
    assert isinstance(place, JournalPlace)
    with pytest.raises(MissingError, match="mobilenet_v1 on cpu"):
        place.ratio(("mobilenet_v1", "fp32", "cpu"), ("mobilenet_v2", "fp32", "cpu"))
    with pytest.raises(MissingError):
        table_places()[0].top1("mobilenet_v2", "fp32")
