"""`mobench pick`: the best within limits, its margin, and the command that deploys it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from click.testing import CliRunner, Result
from test_cli_pareto import save
from test_front_probability import NEAR, judged
from test_pareto import accuracy, campaign, cell, point

from mobench import store
from mobench.cli.pick import command
from mobench.errors import BadInputError, MobenchError
from mobench.pareto import Point
from mobench.pick import Limits, deploying, pick

HERE = {"machine": "Some CPU, 2 cores", "device": "desktop-cpu"}
FAST, MIDDLE, SLOW = (
    point(5, 68, "fast", **HERE), point(10, 72, "middle", **HERE), point(20, 75, "slow", **HERE)
)  # fmt: skip
THREE = (SLOW, FAST, MIDDLE)


def best(limits: Limits, *points: Point, **more: Any) -> tuple[str, str | None]:
    found = pick(points or THREE, limits, **more)
    return found.best.point.label, found.runner_up.point.label if found.runner_up else None


def test_within_a_latency_the_most_accurate_and_with_an_accuracy_alone_the_fastest() -> None:
    assert best(Limits(max_latency_ms=15)) == ("middle", "fast")
    assert best(Limits(max_latency_ms=20)) == ("slow", "middle")
    assert best(Limits(max_latency_ms=15, min_top1=70)) == ("middle", None)
    assert best(Limits(min_top1=70)) == ("middle", "slow")
    found = pick(THREE, Limits(max_latency_ms=15, min_top1=70))
    assert (found.best.margin_ms, found.best.margin_top1) == (5, 2)
    assert (found.compared, found.met, found.machine) == (3, 1, "Some CPU, 2 cores")


def test_of_equally_accurate_ones_the_faster() -> None:
    other = dataclasses.replace(MIDDLE, label="as good", latency_ms=9.9, latency_ci_ms=(9.8, 10.0))
    assert best(Limits(max_latency_ms=15), MIDDLE, other) == ("as good", "middle")


def test_the_margin_is_the_probability_that_both_limits_are_met() -> None:
    close = judged("close", 10.0, 360, latency_ci_ms=(9.0, 100 / 9), **HERE)  # 72 %, and 10 ms give or take 5 %
    faster = NormalDist().cdf(math.log(1.05) / (math.log(10 / 9) / 1.959964))
    better = 1 - NormalDist().cdf((70 - 72) / math.sqrt(72 * 28 / 500))
    found = pick([close], Limits(max_latency_ms=10.5, min_top1=70))
    assert found.best.p_meets == pytest.approx(faster * better, abs=2 * NEAR)
    assert pick([close], Limits(max_latency_ms=10.5)).best.p_meets == pytest.approx(faster, abs=NEAR)


def test_who_wants_to_be_sure_gets_what_surely_meets() -> None:
    tight = point(14.9, 76, "tight", latency_ci_ms=(13.0, 17.0), **HERE)
    assert best(Limits(max_latency_ms=15), *THREE, tight) == ("tight", "middle")
    assert best(Limits(max_latency_ms=15, sure=0.9), *THREE, tight) == ("middle", "fast")
    with pytest.raises(MobenchError, match=r"probability of 0\.9: the surest is tight fp32 ort .*lower --sure"):
        pick([tight], Limits(max_latency_ms=15, sure=0.9))


def test_where_nothing_meets_the_limits_the_nearest_is_named_with_what_it_would_take() -> None:
    with pytest.raises(MobenchError) as caught:
        pick(THREE, Limits(max_latency_ms=9.8, min_top1=71))
    assert not isinstance(caught.value, BadInputError)
    assert str(caught.value) == (
        "nothing on Some CPU, 2 cores meets p50 at most 9.8 ms, top-1 at least 71 %: of 3 the nearest is middle fp32"
        " ort with 10 ms and 72.0 %; it would do with --max-latency 10"
    )
    with pytest.raises(MobenchError, match="it would do with --min-top1 75"):
        pick(THREE, Limits(min_top1=80))


def test_points_in_grave_doubt_or_without_accuracy_are_never_picked() -> None:
    wrong = dataclasses.replace(MIDDLE, label="wrong", accuracy=99.0, doubts=("WRONG_OUTPUT",))
    blind = point(1, None, "blind", **HERE)
    found = pick([*THREE, wrong, blind], Limits(max_latency_ms=15))
    assert found.best.point == MIDDLE
    assert "2 models left out" in " ".join(found.notes)
    with pytest.raises(BadInputError, match=r"nothing to pick on Some CPU.*mobench eval"):
        pick([wrong, blind], Limits(max_latency_ms=15))


def test_the_device_is_named_as_run_has_it_or_by_a_part_of_the_machine() -> None:
    phone = dataclasses.replace(MIDDLE, label="there", machine="Pixel 6, android-gpu", device="android-gpu")
    other = dataclasses.replace(phone, machine="Pixel 7, android-gpu", label="elsewhere")
    limits = Limits(max_latency_ms=15)
    assert best(limits, *THREE, phone, device="android-gpu") == ("there", None)
    assert best(limits, *THREE, phone, device="desktop-cpu") == ("middle", "fast")
    assert best(limits, *THREE, phone, other, device="pixel 7") == ("elsewhere", None)
    with pytest.raises(BadInputError, match="no --device: it could be Pixel 6, android-gpu; Some CPU, 2 cores"):
        pick([*THREE, phone], limits)
    with pytest.raises(BadInputError, match="it could be Pixel 6, android-gpu; Pixel 7, android-gpu"):
        pick([phone, other], limits, device="android-gpu")
    with pytest.raises(BadInputError, match="no results of iphone: there are those of Some CPU"):
        pick(THREE, limits, device="iphone")


def test_without_a_limit_there_is_nothing_to_pick() -> None:
    with pytest.raises(BadInputError, match="give --max-latency"):
        pick(THREE, Limits())


def of_the_zoo(**changes: Any) -> Point:
    fields: dict[str, Any] = {
        "name": "mobilenet_v2",
        "precision": "int8",
        "runtime": "litert",
        "file": "a b/v2-int8.tflite",
        **HERE,
    } | changes
    return point(5, 71, fields.pop("label", "mobilenet_v2"), **fields)


def test_the_commands_make_the_file_and_run_it_as_it_was_timed() -> None:
    assert deploying(of_the_zoo()) == (
        "mobench export mobilenet_v2 --precision int8 --format tflite",
        "mobench run 'a b/v2-int8.tflite' --device desktop-cpu --runtime litert",
    )
    phone = of_the_zoo(device="android-gpu", provider="gpu-fp16", threads=2, weights="mine.pth")
    assert deploying(phone) == (
        "mobench export mobilenet_v2 --precision int8 --format tflite --weights mine.pth",
        "mobench run 'a b/v2-int8.tflite' --device android-gpu --runtime litert --provider gpu-fp16 --threads 2",
    )
    # A foreign file cannot be made again, whatever its name.
    assert len(deploying(of_the_zoo(name="stem"))) == 1
    assert len(deploying(point(5, 71, "stem", file="stem.onnx"))) == 1


def test_a_published_checkpoint_other_than_the_default_is_named_by_its_tag() -> None:
    from mobench import zoo
    from mobench.zoo import pretrained

    first, second = pretrained.available(zoo.get("mobilenet_v2"))[:2]
    assert deploying(of_the_zoo(weights=first.url))[0].endswith("--format tflite")
    assert deploying(of_the_zoo(weights=second.url))[0].endswith(f"--weights pretrained:{second.tag}")


def test_random_weights_are_not_deployed() -> None:
    drawn = of_the_zoo(weights="random:0", random_weights=True)
    assert "--weights" not in deploying(drawn)[0]
    found = pick([drawn], Limits(max_latency_ms=15))
    assert "it was timed with random weights: deploy trained ones" in found.notes
    assert any("FP32's" in note for note in found.notes)


# From journals to stdout.


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two campaigns of one machine, the older with a cell that the newer has not."""
    folder = tmp_path / "results"
    save(campaign("20260101T000000Z-desktop", {"a-ort": 20.0, "old-ort": 5.0}, [cell("a"), cell("old")]), folder)
    save(campaign("20260201T000000Z-desktop", {"a-ort": 10.0}, [cell("a")]), folder)
    store.append_accuracy(folder, accuracy("a"))
    store.append_accuracy(folder, accuracy("old", top1=75.0))
    return folder


def test_every_campaign_of_a_folder_counts(results: Path) -> None:
    result = run("--max-latency", "12", "--json", "--min-top1", "70")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["best"]["sha256"], answer["runner_up"]["sha256"]) == ("a", "old")
    assert answer["best"]["p50_ms"] == pytest.approx(10)
    assert answer["best"]["p_meets"] > 0.99
    assert (answer["best"]["margin_ms"], answer["best"]["margin_top1"]) == (pytest.approx(2), 10)
    assert answer["commands"][-1] == "mobench run artifacts/a --device desktop-cpu --runtime ort"
    assert "2 campaigns were not interleaved" in result.stderr


def test_a_person_reads_the_choice_its_margin_and_the_commands(results: Path) -> None:
    result = run("--max-latency", "12")
    lines = result.stdout.splitlines()
    assert lines[2].split()[:2] == ["best", "mobilenet_v2"] and lines[2].endswith(">0.99")
    assert lines[3].split()[0] == "next"
    assert "Some CPU, 2 cores: 2 of 2 meet p50 at most 12 ms" in result.stdout
    assert "top-1 measured: photos, n = 500" in result.stdout
    assert lines[-1].startswith("mobench run artifacts/a")


def test_an_answer_of_none_is_one_line(results: Path) -> None:
    with pytest.raises(MobenchError, match=r"nothing on Some CPU, 2 cores meets p50 at most 1 ms"):
        run("--max-latency", "1")
    assert run("--max-latency", "0").exit_code == 2
