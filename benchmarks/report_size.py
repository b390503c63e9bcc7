"""The report of many campaigns: how large it is, how long it takes to make, and to open in a headless Chromium.

Journals of made-up latencies are written as a campaign writes them: 3 to 6 networks of the zoo a campaign, in FP32
and INT8, four starts of six rounds, on five machines, each file another (its hash). Then `mobench report` runs as a
user calls it, and its page is opened in a fresh browser each time, also with the processor slowed down fourfold.

    python benchmarks/report_size.py [--campaigns 500] [--opens 10] [--chromium PROGRAM]

Times are from the navigation's start: first paint, everything but the charts ready (the bar is 2 s), first chart drawn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np

from mobench import store, zoo
from mobench.records import Block, Ready

STARTS, ROUNDS, SLOW = 4, 6, 4
FIRST = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
WATCH = """
window.at = {};
new MutationObserver((changes) => {
  for (const { attributeName, target } of changes) {
    const name = attributeName.slice(5);
    if (target.dataset[name] === "yes") window.at[name] ??= performance.now();
  }
}).observe(document, { attributes: true, subtree: true, attributeFilter: ["data-ready", "data-drawn"] });
"""


def write(path: Path, number: int, rng: np.random.Generator) -> int:
    """Journal one campaign and return its number of cells."""
    names = [str(name) for name in rng.choice(sorted(zoo.names()), rng.integers(3, 7), replace=False)]
    cells = []
    for name in names:
        spec = zoo.get(name)
        network = {"name": name, "label": name, "family": spec.family, "width": 1.0, "depth": 1.0, "input_size": 224}
        for precision in ("fp32", "int8"):
            file = f"{name}-{precision}.tflite"
            cells.append(
                {
                    "id": file,
                    "artifact": {
                        "path": f"artifacts/{file}",
                        "sha256": hashlib.sha256(f"{number} {file}".encode()).hexdigest(),
                        "size_bytes": 10_000_000,
                        "format": "tflite",
                        "name": name,
                        "precision": precision,
                        "network": network,
                        "weights": {"kind": "random", "source": "random:0"},
                    },
                    "target": {
                        "device": "desktop-cpu", "runtime": "litert", "provider": "", "threads": 1, "cores": [1],
                        "batch": 1,
                    },
                }
            )  # fmt: skip
    ready = Ready(
        init_ns=9_000_000, first_ns=20_000_000, rss_before_mb=60.0, peak_rss_mb=90.0, asked="XNNPACK", got="XNNPACK",
        nodes_delegated=None, nodes_total=None, threads=1, cores=(1,), inputs=(), outputs=(),
        versions={"mobench": "0.1.0", "runtime": "2.3.0", "python": "3.11.7"},
    )  # fmt: skip
    started = (FIRST + timedelta(hours=number)).isoformat()
    machine = {"cpu": f"Made-up {number % 5}", "arch": "aarch64", "cores": 8, "kernel": "Linux 6.1", "extensions": []}
    usual = rng.uniform(2e6, 6e7, len(cells))
    with store.Journal(path) as journal:
        journal.append(
            "run", schema=store.SCHEMA, campaign=path.stem, started=started, device="desktop-cpu", machine=machine,
            versions={"mobench": "0.1.0"}, settings={"budget_s": 60.0, "seed": 0}, baseline=cells[0]["id"], cells=cells,
        )  # fmt: skip
        for start in range(STARTS):
            for cell in cells:
                journal.append("session", cell=cell["id"], incarnation=start, t_s=15.0 * start, ready=asdict(ready))
            slow = float(np.exp(rng.normal(0, 0.02)))
            for turn in range(ROUNDS):
                t_s = 15.0 * start + 2.0 * turn
                for place, (cell, ns) in enumerate(zip(cells, usual, strict=True)):
                    wall = tuple(int(v) for v in ns * slow * np.exp(rng.normal(0, 0.01, 3)))
                    journal.append(
                        "block",
                        Block(
                            cell=str(cell["id"]), incarnation=start, round=turn, position=place, phase="steady",
                            t_s=t_s, wall_ns=wall, cpu_ns=sum(wall), involuntary_switches=0, steal_ticks=0, lead_in=4,
                        ),
                    )  # fmt: skip
        journal.append("end", reason="budget", t_s=60.0)
    return len(cells)


def open_once(program: str, page_file: Path, slow: int) -> dict[str, float]:
    """Return when a page was painted, ready and had its first chart, in seconds."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.add_init_script(WATCH)
        if slow > 1:
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slow})
        page.goto(page_file.as_uri(), wait_until="commit")
        page.wait_for_function("() => window.at.ready !== undefined", timeout=60_000)
        page.locator("figure[data-chart]").first.scroll_into_view_if_needed()
        page.wait_for_function("() => window.at.drawn !== undefined", timeout=60_000)
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        found = page.evaluate(f"({{ paint: {paint}, ...window.at }})")
        browser.close()
    return {name: value / 1000 for name, value in found.items()}


def main() -> None:
    """Print the report's size and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=500)
    parser.add_argument("--opens", type=int, default=10)
    parser.add_argument("--chromium", default=str(Path(sys.prefix) / "standin" / "browser" / "chromium"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        results, file = Path(folder) / "results", Path(folder) / "report.html"
        results.mkdir()
        cells = sum(write(results / f"{number:04d}.jsonl", number, rng) for number in range(arguments.campaigns))
        began = time.perf_counter()
        command = [sys.executable, "-m", "mobench", "report", "--results", str(results), "-o", str(file), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        made_s = time.perf_counter() - began
        size = json.loads(done.stdout)["bytes"]
        print(f"{arguments.campaigns} campaigns, {cells} cells: {size / 1e6:.2f} MB, made in {made_s:.1f} s")
        print("| processor | first paint, s | ready, s | longest of all | first chart, s |")
        print("|---|---|---|---|---|")
        for slow in (1, SLOW):
            opens = [open_once(arguments.chromium, file, slow) for _ in range(arguments.opens)]
            paint, ready, drawn = (sorted(each[name] for each in opens) for name in ("paint", "ready", "drawn"))
            speed = "as it is" if slow == 1 else f"slowed {slow} times"
            print(f"| {speed} | {median(paint):.2f} | {median(ready):.2f} | {ready[-1]:.2f} | {median(drawn):.2f} |")


if __name__ == "__main__":
    main()
