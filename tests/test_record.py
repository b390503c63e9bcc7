"""What the repository's own record says: the campaigns under results/, and what README and docs show of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mobench import store

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def judged() -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "mobench", "claims", "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_every_journal_is_whole_and_says_nothing_of_where_it_was_made() -> None:
    journals = store.find([ROOT / "results"])
    assert journals
    for journal in journals:
        run = store.read(journal)
        assert not run.failures
        assert run.accuracies or run.end is not None
        paths = {part for cell in run.header.get("cells", ()) for part in Path(cell["artifact"]["path"]).parts}
        assert "/" not in paths, f"{journal} holds an absolute path"


def test_most_claims_have_a_verdict_and_many_by_our_measurements(judged: list[dict[str, object]]) -> None:
    decided = [claim for claim in judged if claim["verdict"] != "not measured"]
    assert len(decided) >= 55
    assert sum(claim["by"] == "ours" for claim in judged) >= 20


def test_readme_tells_the_tally_and_docs_the_claims(judged: list[dict[str, object]]) -> None:
    readme = (ROOT / "README.md").read_text()
    written = re.search(r"Of the papers' (\d+) claims, (.*?): (.*?)\(\[docs", readme, re.DOTALL)
    assert written is not None
    words = " ".join(written[2].split())
    for verdict in ("confirmed", "refuted", "undecided", "not measured", "not testable"):
        count = sum(claim["verdict"] == verdict for claim in judged)
        assert re.search(rf"\b{count} (are )?{verdict}", words), f"README's tally of {verdict} is not {count}"
    table = (ROOT / "docs/claims.md").read_text()
    for claim in judged:
        assert f"| {claim['id']} | {claim['says']} | {claim['verdict']} |" in table, f"`make report`: {claim['id']}"


def test_an_independent_script_judges_the_record_the_same() -> None:
    script = ROOT / "benchmarks/recount_claims.py"
    done = subprocess.run([sys.executable, script, "results"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) >= 10
