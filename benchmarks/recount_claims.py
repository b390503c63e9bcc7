"""Ten latency claims judged again from the raw journals, by a script that shares no code with mobench.

For each way to run (machine, runtime, provider; one thread) the newest journal counts that has an interval for both
networks, else the newest with both: of each start the median over rounds of the paired ratio of block medians, then
Student's interval of their logarithms. The outcome is compared with that of `mobench claims`; the exit status is 1
where one differs.

    python benchmarks/recount_claims.py results
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from scipy.stats import t as student

# Claim: (a, b, lowest, highest) for each ratio a/b that must lie between; a bound of None is none.
CLAIMS: dict[str, list[tuple[str, str, float | None, float | None]]] = {
    "v2.faster_and_better_than_v1": [("mobilenet_v2", "mobilenet_v1", None, 1)],
    "v3.large_vs_v2": [("mobilenet_v3_large", "mobilenet_v2", None, 1)],
    "v3.small_vs_v2_035": [("mobilenet_v3_small", "mobilenet_v2_0.35_224", None, 1.1)],
    "v3.large_vs_mnasnet": [("mobilenet_v3_large", "mnasnet_a1", None, 0.85)],
    "v3.int8_latency": [
        ("mobilenet_v3_large:int8", "mobilenet_v3_large", None, 1),
        ("mobilenet_v2:int8", "mobilenet_v2", None, 1),
    ],
    "v3.se_no_latency_cost": [("mobilenet_v3_large", "mobilenet_v3_large_se_input", 0.97, 1.03)],
    "v3.stem16": [("mobilenet_v3_large", "mobilenet_v3_large_stem32", None, 1)],
    "eff.b1_vs_resnet152": [("resnet152", "efficientnet_b1", 3, None)],
    "mnas.a1_vs_v2": [("mobilenet_v2_1.4_224", "mnasnet_a1", 1.4, None)],
    "mnas.se_gain": [("mnasnet_a1", "mnasnet_b1", 0.95, 1.1)],
}
Rounds = dict[tuple[int, int], float]  # (start, round) -> ns


def cells(journal: Path) -> dict[tuple[Any, ...], dict[str, Rounds]]:
    """Return the block medians of a journal's cells by way to run and by network."""
    events = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1] if line.strip()]
    if not events or events[0]["event"] != "run":
        return {}
    header = events[0]
    aside = {(event["incarnation"], event["round"]) for event in events if event["event"] == "set_aside"}
    blocks: dict[str, Rounds] = defaultdict(dict)
    for event in events:
        key = (event.get("incarnation"), event.get("round"))
        if event["event"] == "block" and event["phase"] == "steady" and key not in aside:
            blocks[event["cell"]][key] = median(event["wall_ns"])
    found: dict[tuple[Any, ...], dict[str, Rounds]] = defaultdict(dict)
    for cell in header["cells"]:
        target, file = cell["target"], cell["artifact"]
        if not file["network"] or target["threads"] != 1 or target["batch"] != 1 or not blocks[cell["id"]]:
            continue
        if target["device"].endswith("gpu"):
            continue
        suffix = "" if file["precision"] == "fp32" else f":{file['precision']}"
        way = (header["machine"]["cpu"], header["machine"]["cores"], *(target[k] for k in ("runtime", "provider")))
        found[way].setdefault(file["network"]["label"] + suffix, blocks[cell["id"]])
    return found


def interval(a: Rounds, b: Rounds) -> tuple[float, float]:
    """Return the 95 % interval of a over b; everything where there are fewer than three starts."""
    starts: dict[int, list[float]] = defaultdict(list)
    for (start, number), value in a.items():
        if (start, number) in b:
            starts[start].append(value / b[start, number])
    logs = [math.log(median(ratios)) for ratios in starts.values()]
    if len(logs) < 3:
        return 0.0, math.inf
    half = float(student.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


def verdict(low: float, high: float, least: float | None, most: float | None) -> str:
    """Return whether a ratio lies between two bounds."""
    if (most is not None and low >= most) or (least is not None and high <= least):
        return "refuted"
    inside = (most is None or high < most) and (least is None or low > least)
    return "confirmed" if inside else "undecided"


def recount(folder: Path) -> dict[str, str]:
    """Return our verdict on each of the ten claims; nothing where a network was not timed beside the other."""
    newest: dict[tuple[Any, ...], list[dict[str, Rounds]]] = defaultdict(list)
    journals = [path for path in folder.rglob("*.jsonl") if path.name != "accuracy.jsonl"]
    for journal in sorted(journals, key=lambda path: path.name, reverse=True):
        for way, networks in cells(journal).items():
            newest[way].append(networks)
    verdicts = {}
    for claim, ratios in CLAIMS.items():
        said = []
        for campaigns in newest.values():
            parts = []
            for a, b, least, most in ratios:
                found = [interval(each[a], each[b]) for each in campaigns if a in each and b in each]
                known = [ends for ends in found if ends[1] < math.inf]
                parts.append(verdict(*(known or found)[0], least, most) if found else "")
            if "" not in parts:
                said.append(next(word for word in ("refuted", "undecided", "confirmed") if word in parts))
        disagree = {"confirmed", "refuted"} <= {*said}
        words = ("undecided",) if disagree else ("confirmed", "refuted", "undecided")
        verdicts[claim] = next((word for word in words if word in said or disagree), "")
    return verdicts


def main(folder: Path) -> int:
    """Print both verdicts on each claim, and return how many differ."""
    command = [sys.executable, "-m", "mobench", "claims", "--results", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = {each["id"]: each["ours"] for each in json.loads(done.stdout)}
    differ = 0
    for claim, mine in recount(folder).items():
        differ += mine != theirs[claim]
        note = "" if mine == theirs[claim] else "  DIFFERS"
        print(f"{claim:32} {mine or '-':10} mobench claims: {theirs[claim] or '-':10}{note}")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
