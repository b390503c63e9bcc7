"""What differs between two campaigns, and whether that refuses a comparison or labels it."""

from pathlib import Path
from typing import Any

import pytest
from made_runs import MACHINE, make_run, spread

from mobench.errors import BadInputError
from mobench.records import Cluster, DeviceState, Run
from mobench.verdicts.comparability import Difference, differences, identity, machine_name, refuse


def campaign(name: str = "one", **changes: Any) -> Run:
    return make_run(Path(f"{name}.jsonl"), {"a.tflite": spread(1.0)}, incarnations=1, rounds=2, **changes)


def found(**changes: Any) -> dict[str, Difference]:
    one, other = campaign(), campaign("other", **changes)
    cells = one.header["cells"][0], other.header["cells"][0]
    return {difference.field: difference for difference in differences(one, other, *cells)}


def test_two_campaigns_of_one_machine_do_not_differ() -> None:
    assert not found()
    assert not found(started="2027-01-01T00:00:00+00:00", header={"settings": {"budget_s": 5.0, "seed": 9}})


@pytest.mark.parametrize(
    ("changes", "field", "values"),
    [
        ({"machine": MACHINE | {"cpu": "Cortex-A53"}}, "CPU model", ("Cortex-Z9", "Cortex-A53")),
        ({"machine": MACHINE | {"arch": "x86_64"}}, "architecture", ("aarch64", "x86_64")),
        ({"machine": MACHINE | {"cores": 4}}, "core count", ("8", "4")),
        ({"machine": MACHINE | {"extensions": ["asimddp"]}}, "vector extensions", ("i8mm", "none")),
        ({"device": "android-cpu"}, "device", ("desktop-cpu", "android-cpu")),
        ({"target": {"a.tflite": {"threads": 4}}}, "threads", ("1", "4")),
        ({"target": {"a.tflite": {"batch": 8}}}, "batch", ("1", "8")),
        ({"got": "builtin"}, "provider", ("XNNPACK", "builtin")),
    ],
)
def test_another_machine_or_way_of_running_refuses(
    changes: dict[str, Any], field: str, values: tuple[str, str]
) -> None:
    difference = found(**changes)[field]
    assert (difference.severity, difference.one, difference.other) == ("refuse", *values)


@pytest.mark.parametrize(
    ("changes", "field", "values"),
    [
        ({"machine": MACHINE | {"kernel": "Linux 6.8"}}, "kernel", ("Linux 6.1", "Linux 6.8")),
        # A mobench that looks for more of them has not found another machine.
        ({"machine": MACHINE | {"extensions": ["asimddp", "bf16", "i8mm"]}}, "vector extensions", ("none", "bf16")),
        ({"versions": {"runtime": "1.1"}}, "runtime", ("1.0", "1.1")),
        ({"header": {"versions": {"mobench": "0.2.0"}}}, "mobench", ("0.1.0", "0.2.0")),
        ({"header": {"shape": [1, 3, 8, 8]}}, "input shape", ("none", "1 3 8 8")),
        ({"target": {"a.tflite": {"cores": [7]}}}, "cores", ("1", "7")),
        ({"lead_in": 1}, "untimed inferences a block", ("4", "1")),
    ],
)
def test_what_may_move_latencies_is_a_label(changes: dict[str, Any], field: str, values: tuple[str, str]) -> None:
    one, other = campaign(header={"shape": []}), campaign("other", **changes)
    cells = one.header["cells"][0], other.header["cells"][0]
    difference = next(d for d in differences(one, other, *cells) if d.field == field)
    assert (difference.severity, difference.one, difference.other) == ("label", *values)


def test_what_only_one_side_knows_is_no_difference() -> None:
    assert not found(machine={key: value for key, value in MACHINE.items() if key != "kernel"})
    assert not found(machine=MACHINE | {"governor": "performance"})


def state(**fields: Any) -> DeviceState:
    return DeviceState(when="before", t_s=0.0, **fields)


def cluster(cap_khz: int) -> Cluster:
    return Cluster(cores=(0,), cap_khz=cap_khz, max_khz=2_000_000)


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (
            state(clusters=(cluster(2_000_000),)),
            state(clusters=(cluster(1_000_000),)),
            "clock cap, share of the highest: none against 50%",
        ),
        (state(power="mains"), state(power="battery"), "power: mains against battery"),
        (state(thermal_status="none"), state(thermal_status="severe"), "thermal status: none against severe"),
        (state(others_share=0.02), state(others_share=0.40), "CPU time of others: 2% against 40%"),
    ],
)
def test_the_states_of_the_machine_are_labels(one: DeviceState, other: DeviceState, text: str) -> None:
    runs = campaign("one", states=[one]), campaign("other", states=[other])
    assert [str(difference) for difference in differences(*runs)] == [text]


def test_without_cells_the_versions_of_all_runtimes_are_compared() -> None:
    assert [str(d) for d in differences(campaign(), campaign("other", versions={"runtime": "1.1"}))] == [
        "runtime: 1.0 against 1.1"
    ]


def test_small_changes_of_load_and_of_a_virtual_machines_memory_are_none() -> None:
    assert not differences(
        campaign("one", states=[state(others_share=0.02)], machine=MACHINE | {"memory_mb": 24105}),
        campaign("other", states=[state(others_share=0.05)], machine=MACHINE | {"memory_mb": 24090}),
    )


def test_cells_of_one_campaign_differ_because_somebody_asked_for_both() -> None:
    target = {"b.tflite": {"threads": 4, "batch": 2}}
    run = make_run(Path("j.jsonl"), {"a.tflite": spread(1.0), "b.tflite": spread(1.0)}, target=target)
    fields = {d.field: d.severity for d in differences(run, run, *run.header["cells"])}
    assert fields == {"threads": "label", "batch": "label"}


def test_a_refusal_is_one_line_with_every_ground_its_values_and_a_mend() -> None:
    one, other = campaign(), campaign("other", machine=MACHINE | {"cpu": "A53", "cores": 4, "kernel": "Linux 6.8"})
    with pytest.raises(BadInputError) as refusal:
        refuse(differences(one, other), "old and new")
    assert str(refusal.value) == (
        "old and new cannot be compared: CPU model: Cortex-Z9 against A53; core count: 8 against 4;"
        " time both in one campaign on one machine, or --anyway to compare under this label"
    )
    refuse(differences(one, campaign("third", versions={"runtime": "2"})), "old and new")


def test_refusals_come_before_labels() -> None:
    found_fields = [d.severity for d in differences(campaign(), campaign("o", machine={"kernel": "x", "cpu": "y"}))]
    assert found_fields == ["refuse", "label"]


def test_a_cell_is_the_same_thing_twice_only_with_file_target_provider_and_version_alike() -> None:
    one = campaign()
    same = campaign("same", target={"a.tflite": {"cores": [3]}})
    assert identity(one, one.header["cells"][0]) == identity(same, same.header["cells"][0])
    for changes in (
        {"sha256": {"a.tflite": "else"}},
        {"versions": {"runtime": "1.1"}},
        {"got": "builtin"},
        {"target": {"a.tflite": {"threads": 2}}},
    ):
        other = campaign("other", **changes)
        assert identity(one, one.header["cells"][0]) != identity(other, other.header["cells"][0]), changes


def test_a_machine_is_named_by_processor_cores_and_device() -> None:
    assert machine_name(campaign()) == "Cortex-Z9, 8 cores"
    assert machine_name(campaign(device="android-cpu")) == "Cortex-Z9, 8 cores, android-cpu"
    assert machine_name(campaign(machine={})) == "unknown machine"
