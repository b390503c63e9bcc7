"""`mobench report`: what is in the page, that nothing in a journal can break out of it, bad input, size."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import io
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_runs import MACHINE, make_run, spread

from mobench import zoo
from mobench.cli import cli
from mobench.cli.report import command
from mobench.errors import MobenchError
from mobench.records import Accuracy, Cluster, DeviceState, Run
from mobench.report.html import page
from mobench.report.html.evidence import Evidence, plain_path, read
from mobench.report.html.page import TITLES
from mobench.store import append_accuracy

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
NASTY = "</script><img src=x onerror=alert(1)>&\"'"
STATES = tuple(
    DeviceState(
        when=when,
        t_s=t_s,
        clusters=(Cluster(cores=(0, 1), governor="schedutil", freq_khz=1_800_000, cap_khz=2_000_000),),
        temps_c={"cpu": temp},
        load_1m=0.5,
        others_share=0.01,
    )
    for when, t_s, temp in (("before", 0.0, 41.0), ("during", 9.0, 58.0), ("after", 20.0, 47.0))
)


def artifact(name: str, precision: str = "fp32", /, **changes: Any) -> dict[str, Any]:
    spec = zoo.get(name)
    network = {"name": name, "label": name, "family": spec.family, "width": 1.0, "depth": 1.0, "input_size": 224}
    weights = {"kind": "random", "source": "random:0"}
    return {"name": name, "precision": precision, "network": network, "weights": weights} | changes


def campaign(path: Path, **changes: Any) -> Run:
    """Journal a campaign of four networks of the zoo, one of them 1 % slower in each."""
    files = {f"{name}-fp32.tflite": artifact(name) for name in NETWORKS}
    logs = (0.0, 0.01, -0.01, 0.005, -0.005)
    latencies = {file: spread(1.0 + 0.4 * number, logs) for number, file in enumerate(files)}
    latencies |= changes.pop("latencies", {})
    files |= changes.pop("artifact", {})
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_run(path, latencies, artifact=files, states=STATES, **changes)


def report(*arguments: str) -> Result:
    """Call the verb as `mobench.cli.main` does, where what it returns becomes the exit status."""
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is None:
        result.exit_code = result.return_value
    return result


class Page(HTMLParser):
    """The page's elements, its texts by section, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.sections: dict[str, str] = {}
        self._section, self._script = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        named = dict(attrs)
        self.elements.append((tag, named))
        if tag == "section":
            self._section = str(named["id"])
        if tag == "script":
            self._script = str(named.get("id", f"own{len(self.scripts)}"))

    def handle_endtag(self, tag: str) -> None:
        """Note where a section or script ends."""
        if tag == "section":
            self._section = ""
        if tag == "script":
            self._script = ""

    def handle_data(self, text: str) -> None:
        """Note a text."""
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + text
        elif self._section:
            self.sections[self._section] = self.sections.get(self._section, "") + text

    @property
    def data(self) -> dict[str, Any]:
        """The page's data."""
        found: dict[str, Any] = json.loads(self.scripts["data"])
        return found

    def cells(self, evidence: str = "ours") -> list[dict[str, Any]]:
        """The cells of one kind of evidence."""
        table = self.data["cells"]
        every = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        return [cell for cell in every if cell["evidence"] == evidence]

    def csv(self) -> list[dict[str, str]]:
        """The rows of the download."""
        (link,) = [named for _, named in self.elements if named.get("data-download") == "csv"]
        packed = str(link["href"]).removeprefix("data:application/gzip;base64,")
        return list(csv.DictReader(io.StringIO(gzip.decompress(base64.b64decode(packed)).decode())))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of two machines, one accuracy measured."""
    folder = tmp_path_factory.mktemp("results")
    run = campaign(folder / "a" / "one.jsonl")
    campaign(
        folder / "b" / "two.jsonl", machine=MACHINE | {"cpu": "Other-1", "phone_id": "secret"}, versions={"r": "2"}
    )
    cell = run.header["cells"][0]
    accuracy = Accuracy(
        sha256=cell["artifact"]["sha256"], name="mobilenet_v1", precision="fp32", runtime="litert", data="photos#1",
        n=500, top1=70.0, top1_ci=(65.8, 73.9), top5=90.0, top5_ci=(87.1, 92.3),
    )  # fmt: skip
    append_accuracy(folder, accuracy)
    return Page(page.render(page.gather(read([folder]), command="mobench report -o r.html")))


def test_every_section_is_there_and_says_what_it_should(made: Page) -> None:
    assert list(made.sections) == list(TITLES)
    assert "2 machines" in made.sections["summary"] and "claims:" in made.sections["summary"]
    for words in ("V3-Large is faster than V2 on a CPU and slower on a mobile GPU", "Against V3-Large, MoGA-C"):
        assert words in made.sections["summary"] and words in made.sections["cpu-gpu"]
    assert "Cortex-Z9" in made.sections["devices"] and "Other-1" in made.sections["devices"]
    assert "mobench report -o r.html" in made.sections["reproduce"]
    assert "--precision fp32 --format tflite --weights random:0" in made.sections["reproduce"]


def test_machines_and_kinds_of_accuracy_are_fronts_of_their_own(made: Page) -> None:
    fronts = {(cell["device"], cell["kind"]): cell["front"] for cell in made.cells()}
    assert len(fronts) == 4 and len(set(fronts.values())) == 4
    charts = [named for _, named in made.elements if named.get("data-chart") == "front"]
    assert [named["data-front"] for named in charts[:4]] == [str(front) for front in sorted(fronts.values())]


def test_public_tables_have_fronts_of_their_own_under_their_own_names(made: Page) -> None:
    ours = {cell["front"] for cell in made.cells()}
    for kind in ("others", "printed"):
        cells = made.cells(kind)
        assert cells and not ours & {cell["front"] for cell in cells}
        assert all(cell["p"] is None and cell["threads"] == "not recorded" for cell in cells)
        assert all(cell["kind"] == "published" and cell["campaign"] for cell in cells)


def test_an_accuracy_says_measured_with_data_and_n_or_published_with_paper_and_table(made: Page) -> None:
    by_kind = {cell["kind"]: cell for cell in made.cells()}
    measured, published = by_kind["measured"], by_kind["published"]
    assert (measured["top1"], measured["top1_low"], measured["top1_high"]) == (70.0, 65.8, 73.9)
    assert measured["source"] == "photos#1, n = 500"
    assert re.search(r"arXiv:\S+ table", published["source"]) and published["top1_low"] is None
    assert all("timed with random weights" in cell["source"] for cell in made.cells() if cell["kind"] == "published")


def test_every_chart_and_claim_says_whose_evidence_it_is(made: Page) -> None:
    kinds = {named["data-evidence"] for _, named in made.elements if "data-evidence" in named}
    assert {"ours", "others", "printed"} <= kinds
    assert sum("data-chart" in named for _, named in made.elements) <= sum(
        "data-evidence" in named for _, named in made.elements
    )


def test_the_claims_are_those_of_mobench_claims(tmp_path: Path) -> None:
    campaign(tmp_path / "results" / "one.jsonl")
    asked = CliRunner().invoke(cli, ["claims", "--json"])
    verdicts = {each["id"]: each["verdict"] for each in json.loads(asked.stdout)}
    assert report().exit_code == 0
    shown = {
        named["data-claim"]: named["data-verdict"]
        for _, named in Page(Path("report.html").read_text()).elements
        if "data-claim" in named
    }
    assert shown == verdicts


def test_a_campaign_has_its_states_settings_and_command(made: Page) -> None:
    table = made.data["campaigns"]
    first = dict(zip(table["columns"], table["rows"][0], strict=True))
    assert [row[0] for row in first["states"]["rows"]] == ["before", "during", "after"]
    assert "58" in first["states"]["rows"][1] and "1.80" in first["states"]["rows"][0]
    assert first["command"].startswith("mobench run mobilenet_v1 mobilenet_v2") and "--budget 20" in first["command"]


def test_the_csv_has_every_cell_of_every_campaign(made: Page) -> None:
    rows = [row for row in made.csv() if row["evidence"] == "ours"]
    assert len(rows) == 8 and {row["campaign"] for row in rows} == {"one", "two"}
    ours = {(c["campaign"], c["ms"]) for c in made.cells()}
    assert {(row["campaign"], float(f"{float(row['p50_ms']):.6g}")) for row in rows} == ours
    assert all(float(row["p50_ci_ms_low"]) < float(row["p50_ms"]) < float(row["p50_ci_ms_high"]) for row in rows)


def test_the_page_loads_nothing(made: Page) -> None:
    for tag, named in made.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        assert "src" not in named
        if "href" in named:
            assert str(named["href"]).startswith(("#", "data:application/gzip")), named["href"]
    own = [text for name, text in made.scripts.items() if name not in ("data", "plotly")]
    style = Path(page.__file__).with_name("report.css").read_text()
    assert not re.search(r"@import|url\(|https?:", style)
    assert not [text for text in own if re.search(r"https?:|fetch\(|XMLHttpRequest|eval\(", text)]
    (policy,) = [named for _, named in made.elements if named.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy["content"]).startswith("default-src 'none'")


def test_plotly_is_the_installed_one(made: Page) -> None:
    from plotly.offline import get_plotlyjs

    assert gzip.decompress(base64.b64decode(made.scripts["plotly"])).decode() == get_plotlyjs()


def test_what_is_private_stays_out(made: Page, tmp_path: Path) -> None:
    assert "secret" not in json.dumps(made.data) + "".join(made.sections.values())
    assert plain_path("/home/me/net.tflite") == "net.tflite" and plain_path("a/net.tflite") == "a/net.tflite"


def test_nothing_from_a_journal_becomes_markup(tmp_path: Path) -> None:
    hostile = artifact("mobilenet_v2", name=NASTY, precision=NASTY)
    hostile["network"] = hostile["network"] | {"label": NASTY, "family": NASTY}
    name = f"{NASTY[:9]}.tflite"
    campaign(
        tmp_path / "one.jsonl",
        latencies={name: spread(3.0)},
        artifact={name: hostile},
        machine=MACHINE | {"cpu": NASTY, "kernel": NASTY, NASTY: NASTY},
        versions={NASTY: NASTY},
        header={"campaign": NASTY},
    )
    text = page.render(page.gather(read([tmp_path])))
    found, calm = Page(text), {"html", "head", "meta", "title", "style", "body", "a", "header", "div", "h1", "button"}
    calm |= {"p", "nav", "main", "noscript", "section", "h2", "ul", "li", "span", "strong", "code", "em", "label"}
    calm |= {"select", "option", "input", "i", "figure", "h3", "figcaption", "table", "thead", "tbody", "tr", "th"}
    calm |= {"td", "details", "summary", "small", "pre", "footer", "script", "br"}
    assert {tag for tag, _ in found.elements} <= calm
    assert not [named for _, named in found.elements if any(key.startswith("on") for key in named)]
    assert len(found.scripts) == 4
    assert NASTY in [cell["network"] for cell in found.cells()] or NASTY[:20] in str(found.cells())
    assert NASTY in found.sections["devices"]


def test_half_a_character_in_a_journal_does_not_stop_the_page(tmp_path: Path) -> None:
    campaign(tmp_path / "one.jsonl", header={"campaign": "half \ud83d"})
    page.render(page.gather(read([tmp_path]))).encode()


def test_without_results_there_is_one_line_and_exit_2(tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = report(*arguments)
        assert isinstance(done.exception, MobenchError) and done.exception.kind == "bad_input"
        assert not Path("report.html").exists() and "\n" not in str(done.exception)
        return str(done.exception)

    assert "mobench run" in refused()
    (tmp_path / "results").mkdir()
    assert "mobench run" in refused()
    assert "nowhere" in refused("--results", "nowhere")
    (tmp_path / "results" / "bad.jsonl").write_text("{}\n")
    assert "nothing timed" in refused() and "bad.jsonl" in refused()
    assert "HTML" in refused("-o", "report.pdf")


def test_a_damaged_journal_is_named_with_its_line_here_and_there_and_the_rest_is_shown(tmp_path: Path) -> None:
    campaign(tmp_path / "results" / "good.jsonl")
    whole = (tmp_path / "results" / "good.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "results" / "torn.jsonl").write_text("".join([*whole[:3], "{torn\n", *whole[3:]]))
    done = report("--json")
    assert done.exit_code == 0
    (fault,) = json.loads(done.stdout)["faults"]
    assert "torn.jsonl:4" in fault and fault in done.stderr
    made = Page(Path("report.html").read_text())
    assert "torn.jsonl:4" in made.sections["summary"] and "torn.jsonl:4" in made.sections["doubts"]
    assert len(made.cells()) == 4


def test_cells_that_take_no_part_are_listed_with_the_reason(tmp_path: Path) -> None:
    campaign(tmp_path / "one.jsonl", latencies={"mine.tflite": spread(2.0), "broken.tflite": None})
    made = Page(page.render(page.gather(read([tmp_path]))))
    assert {cell["network"]: cell["front"] for cell in made.cells()}["mine"] == -1
    apart = made.sections["fronts"].partition("On no front")[2]
    assert "no accuracy" in apart and "mine" in apart and "it does not load" in apart
    assert "did not run" in made.sections["doubts"]


def test_without_any_accuracy_the_rest_is_there(tmp_path: Path) -> None:
    cells = {"mine.tflite": spread(2.0), "other.tflite": spread(3.0)}
    make_run(tmp_path / "one.jsonl", cells)
    made = Page(page.render(page.gather(read([tmp_path]))))
    assert "there is no front" in made.sections["fronts"] and len(made.cells()) == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[claim]]\nid = "mine.one"\n', "entry at line 1"),
        (
            '[[claim]]\nid = "mine.one"\npaper = "v2"\ntable = "1"\nbasis = "read"\nkind = "latency"\nsays = "so"\n'
            'test = "ratio(nonet, mobilenet_v2, cpu) < 1"\n',
            "no network is named 'nonet'",
        ),
        (None, "claims.toml"),
    ],
)
def test_a_claims_file_that_cannot_be_read_is_a_line_and_the_rest_is_shown(
    tmp_path: Path, text: str | None, line: str
) -> None:
    campaign(tmp_path / "results" / "good.jsonl")
    if text is not None:
        Path("claims.toml").write_text(text)
    done = report("--claims", "claims.toml")
    assert done.exit_code == 1 and line in done.stderr
    made = Page(Path("report.html").read_text())
    assert line in made.sections["claims"] and len(made.cells()) == 4
    assert "V3-Large is faster" in made.sections["summary"]


def test_the_same_results_make_the_same_bytes(tmp_path: Path) -> None:
    campaign(tmp_path / "one.jsonl")
    one, other = (page.render(page.gather(read([tmp_path]))) for _ in range(2))
    assert one == other


def many(tmp_path: Path, count: int, precisions: tuple[str, ...] = ("fp32", "int8")) -> Evidence:
    """Return so many campaigns of four networks, each of files of its own, on five machines."""
    files = {f"{name}-{p}.tflite": artifact(name, p) for name in NETWORKS for p in precisions}
    latencies = {file: spread(1 + number / 9, (0.0, 0.01, -0.01)) for number, file in enumerate(files)}
    first = make_run(tmp_path / "one.jsonl", latencies, artifact=files, incarnations=3, rounds=2, states=STATES)

    def another(number: int) -> Run:
        def renamed(cell: Mapping[str, Any]) -> dict[str, Any]:
            return {**cell, "artifact": cell["artifact"] | {"sha256": f"{number:08x}{cell['id']}"}}

        header = {
            **first.header,
            "campaign": f"20261122T{number:06d}Z-desktop-cpu",
            "machine": MACHINE | {"cpu": f"Cortex-Z{number % 5}"},
            "cells": [renamed(cell) for cell in first.header["cells"]],
        }
        return dataclasses.replace(first, header=header, path=tmp_path / f"{number}.jsonl")

    return Evidence(runs=tuple(map(another, range(count))), accuracies=(), faults=(), journals=count)


def test_five_hundred_campaigns_would_stay_under_eight_megabytes(tmp_path: Path) -> None:
    """By how much a hundred add to one; tests/test_report_browser.py opens five hundred where there is a browser."""
    few, more = (page.render(page.gather(many(tmp_path, count))) for count in (1, 101))
    assert len(few.encode()) + 5 * (len(more.encode()) - len(few.encode())) < 8_000_000
    made = Page(more)
    assert len(made.cells()) == 808 and sum(row["evidence"] == "ours" for row in made.csv()) == 808
    assert len(made.elements) < 6_000  # what a browser lays out at once: long tables are data, shown a page at a time
