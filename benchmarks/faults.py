"""What befell the campaigns of `tests/test_phone_faults.py`, and how they ended.

MOBENCH_FAULT_SEEDS=200 pytest tests/test_phone_faults.py --junitxml=faults.xml
python benchmarks/faults.py faults.xml
"""

from __future__ import annotations

import argparse
import statistics
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path


def main() -> None:
    """Print how often each fault struck, the ends, and what was timed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="+", type=Path, help="what pytest --junitxml wrote; several are added up")
    struck: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    seconds: list[float] = []
    passed = blocks = pauses = 0
    for report in parser.parse_args().report:
        for case in ElementTree.parse(report).iter("testcase"):
            said = {each.get("name"): each.get("value") or "" for each in case.iter("property")}
            passed += not {"failure", "error", "skipped"} & {each.tag for each in case}
            struck.update(said.get("struck", "").split())
            ends[said.get("end", "none")] += 1
            blocks += int(said.get("blocks", 0))
            pauses += int(said.get("pauses", 0))
            seconds.append(float(case.get("time", 0)))
    print("| " + " | ".join(kind for kind, _ in struck.most_common()) + " | all |")
    print("|---" * (len(struck) + 1) + "|")
    print("| " + " | ".join(str(count) for _, count in struck.most_common()) + f" | {struck.total()} |")
    how = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    print(f"\n{passed} of {len(seconds)} sequences held; ends: {how}")
    print(f"{blocks} blocks, {pauses} pauses; a sequence: median {statistics.median(seconds):.1f} s", end="")
    print(f", longest {max(seconds):.1f} s")


if __name__ == "__main__":
    main()
