"""The report in a real headless Chromium: layout, filters, keyboard, contrast, print, and that it loads nothing."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from browser import CHECKS, opened
from click.testing import CliRunner
from made_runs import MACHINE, make_run, spread
from test_report_html import NASTY, STATES, artifact, many

from mobench.accuracy import wilson
from mobench.cli import cli
from mobench.records import Accuracy
from mobench.report.html import page as html
from mobench.store import append_accuracy

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0")
WIDTHS = (360, 768, 1440)
MOST_BYTES = 8_000_000
TICK = "getComputedStyle(document.querySelector('.plot .xtick text'))"
# Of each chart of a front: its number, how many points it says it has, whether it is hidden, how many it has drawn.
CHARTS = """charts => charts.map(chart => [
  Number(chart.dataset.front), Number(chart.dataset.shown), chart.hidden,
  chart.dataset.drawn && !chart.hidden
    ? chart.querySelectorAll(".scatterlayer .trace")[1].querySelectorAll("path.point").length : null,
])"""


def journal(path: Path, *, hostile: bool = False, **changes: Any) -> None:
    """Journal a campaign of five networks in FP32 and INT8 in both runtimes."""
    files = {
        f"{name}-{precision}.{form}": artifact(name, precision)
        for name in NETWORKS
        for precision in ("fp32", "int8")
        for form in ("tflite", "onnx")
    }
    if hostile:
        bad = artifact("mobilenet_v2", name=NASTY)
        files["hostile.tflite"] = bad | {"network": bad["network"] | {"label": NASTY, "family": NASTY}}
    logs = (0.0, 0.01, -0.01, 0.005, -0.005)
    latencies = {file: spread(0.3 + 0.13 * number, logs) for number, file in enumerate(files)}
    path.parent.mkdir(parents=True, exist_ok=True)
    make_run(path, latencies, artifact=files, states=STATES, rounds=3, **changes)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two machines; on one of them accuracies are measured, and one name is hostile."""
    folder = tmp_path_factory.mktemp("report")
    journal(folder / "results" / "here.jsonl", hostile=True)
    journal(folder / "results" / "there.jsonl", machine=MACHINE | {"cpu": "Other-1"}, header={"campaign": "there"})
    for number, name in enumerate(NETWORKS):
        for precision in ("fp32", "int8"):
            hits = 330 + 14 * number - 4 * (precision == "int8")
            for runtime, form in (("litert", "tflite"), ("ort", "onnx")):
                accuracy = Accuracy(
                    sha256=f"{name}-{precision}.{form}", name=name, precision=precision, runtime=runtime,
                    data="photos#1", n=500, top1=hits / 5, top1_ci=wilson(hits, 500), top5=90.0, top5_ci=(87.1, 92.3),
                )  # fmt: skip
                append_accuracy(folder / "results", accuracy)
    done = CliRunner().invoke(cli, ["report", "--results", str(folder / "results"), "-o", str(folder / "report.html")])
    assert done.exit_code == 0, done.output
    return folder / "report.html"


def ready(page: Any) -> None:
    page.wait_for_function("() => document.documentElement.dataset.ready === 'yes'")
    page.evaluate(CHECKS.read_text())


def draw(page: Any, most: int = 100) -> None:
    """Bring the first charts that are not folded away into view, each until it is drawn."""
    charts = [chart for chart in page.query_selector_all("figure[data-chart]") if chart.is_visible()]
    for chart in charts[:most]:
        chart.scroll_into_view_if_needed()
        page.wait_for_function("chart => chart.dataset.drawn === 'yes'", arg=chart)


def data(page: Any, table: str) -> list[dict[str, Any]]:
    found = page.evaluate("name => JSON.parse(document.getElementById('data').textContent)[name]", table)
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def shown(page: Any, count: str) -> tuple[int, int]:
    element = page.locator(f"#{count}")
    return int(element.get_attribute("data-shown")), int(element.get_attribute("data-total"))


def hover(page: Any, chart: Any) -> str:
    """Bring the mouse to a chart's first point and return what the chart then tells."""
    point = chart.locator(".scatterlayer .trace").nth(1).locator("path.point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    told = chart.locator(".hoverlayer .hovertext")
    told.wait_for()
    return told.text_content()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overlaps_overflows_or_is_pale(chromium: Any, report: Path, tmp_path: Path, width: int) -> None:
    with opened(chromium, report, width=width) as page:
        ready(page)
        draw(page)
        page.evaluate("document.querySelectorAll('details').forEach((fold, i) => { fold.open ||= i % 9 === 0; })")
        page.locator("#campaigns button[aria-expanded]").first.click()
        draw(page)
        for scheme in ("light", "dark"):
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("checks.overlaps()") == []
            assert page.evaluate("checks.pale()") == []
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=tmp_path / f"{width}-{scheme}.png")
            page.emulate_media(color_scheme="dark")


def test_the_checks_find_what_they_look_for(chromium: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<body style='background:#fff'><p style='margin:0'>under it</p><p style='margin:-15px 0 0'>over it</p>"
        "<p style='color:#999'>pale</p><p style='color:#949494;font-size:24px'>large</p>"
        "<div style='width:3000px'>wide</div><button style='outline:none'>no ring</button><a href='#'>ring</a>"
    )
    with opened(chromium, bad) as page:
        page.evaluate(CHECKS.read_text())
        assert page.evaluate("checks.overlaps()") == ["under it | over it"]
        assert page.evaluate("checks.pale()") == ["2.85: pale"]
        assert page.evaluate("document.documentElement.scrollWidth") > 1440
        assert page.evaluate("checks.usable()") == ["button no ring", "a ring"]
        stops = []
        for _ in range(2):
            page.keyboard.press("Tab")
            stops.append(page.evaluate("checks.stop()")[:2])
        assert [stop for stop, _ in stops] == [0, 1] and not stops[0][1]
    for tag, problem in (
        ("<script>console.error('said')</script>", "said"),
        ("<script>throw Error('thrown out')</script>", "thrown out"),
        ("<img src='http://192.0.2.1/x.png'>", "192.0.2.1"),
        ("<script>fetch('https://192.0.2.1/y').catch(() => 0)</script>", "192.0.2.1/y"),
        ("<script>alert('hello')</script>", "hello"),
    ):
        bad.write_text(tag)
        with pytest.raises(AssertionError, match=re.escape(problem)), opened(chromium, bad) as page:
            page.wait_for_load_state()


def test_the_filters_leave_the_cells_that_fit_in_table_and_charts(chromium: Any, report: Path) -> None:
    with opened(chromium, report) as page:
        ready(page)
        draw(page, 3)
        cells, drawn = data(page, "cells"), 0
        for name in ("device", "precision", "family", "runtime"):
            wanted = Counter(str(cell[name]) for cell in cells).most_common()[-1][0]
            fit = [cell for cell in cells if str(cell[name]) == wanted]
            page.locator(f"#fronts select[data-filter={name}]").select_option(wanted)
            assert 0 < len(fit) < len(cells) and shown(page, "cells-count") == (len(fit), len(cells)), name
            places = page.locator("#cells tbody tr").evaluate_all("rows => rows.map(row => Number(row.dataset.cell))")
            assert {*places} <= {cells.index(cell) for cell in fit} and len(places) == min(len(fit), 25)
            charts = page.locator("figure[data-chart=front]").evaluate_all(CHARTS)
            drawn += sum(points is not None for *_, points in charts)
            for front, told, hidden, points in charts:
                own = sum(cell["front"] == front for cell in fit)
                assert (told, hidden) == (own, own == 0) and points in (None, own)
            page.locator("#fronts [data-action=clear]").click()
            assert shown(page, "cells-count") == (len(cells), len(cells))
        assert drawn > 2


def test_the_claims_are_filtered_by_verdict_paper_and_words(chromium: Any, report: Path) -> None:
    with opened(chromium, report, idle=False) as page:
        ready(page)
        claims = page.locator("details.claim")
        every = claims.count()
        for name in ("verdict", "paper"):
            found = Counter(claims.evaluate_all(f"all => all.map(one => one.dataset.{name})"))
            wanted, count = found.most_common()[-1]
            page.locator(f"#claims [data-filter={name}]").select_option(wanted)
            assert shown(page, "claims-count") == (count, every) and count < every
            assert page.locator("details.claim:visible").count() == count
            page.locator("#claims [data-action=clear]").click()
        page.locator("#claims [data-filter=text]").fill("gpu moga")
        texts = page.locator("details.claim:visible").evaluate_all("all => all.map(one => one.textContent)")
        assert 0 < len(texts) < every
        assert all("gpu" in text.lower() and "moga" in text.lower() for text in texts)
        page.locator("#claims [data-action=clear]").click()
        assert page.locator("details.claim:visible").count() == every


def test_a_claim_unfolds_by_mouse_and_by_keyboard(chromium: Any, report: Path) -> None:
    with opened(chromium, report, idle=False) as page:
        ready(page)
        claim = page.locator("details.claim").first
        summary, evidence = claim.locator("summary"), claim.locator(".evidence")
        assert not evidence.is_visible()
        summary.click()
        assert evidence.is_visible() and evidence.inner_text().strip()
        summary.click()
        assert not evidence.is_visible()
        summary.focus()
        for key in ("Enter", "Space"):
            page.keyboard.press(key)
            assert evidence.is_visible()
            page.keyboard.press(key)
            assert not evidence.is_visible()


@pytest.mark.parametrize("width", [360, 1440])
def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(chromium: Any, report: Path, width: int) -> None:
    with opened(chromium, report, width=width, idle=False) as page:
        ready(page)
        usable = page.evaluate("checks.usable()")
        reached, unseen = set(), []
        for _ in range(2 * len(usable)):
            page.keyboard.press("Tab")
            stop, seen, what = page.evaluate("checks.stop()")
            if stop == -1:
                break
            reached.add(stop)
            if not seen:
                unseen.append(what)
        assert [what for i, what in enumerate(usable) if i not in reached] == []
        assert unseen == []
        assert stop == -1, "the focus never came out of the page again"


def test_the_first_tab_skips_to_the_content(chromium: Any, report: Path) -> None:
    with opened(chromium, report, idle=False) as page:
        ready(page)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_colours_follow_the_system_and_the_button(chromium: Any, report: Path) -> None:
    def colours(page: Any) -> tuple[str, str]:
        return tuple(page.evaluate(f"[getComputedStyle(document.body).backgroundColor, {TICK}.fill]"))

    with opened(chromium, report, scheme="light") as page:
        ready(page)
        draw(page, 1)
        light = colours(page)
        button = page.locator("[data-theme-toggle]")
        button.click()
        page.wait_for_function(f"() => {TICK}.fill !== '{light[1]}'")
        dark = colours(page)
        assert light[0] == "rgb(255, 255, 255)" and dark[0] != light[0]
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        button.click()
        page.wait_for_function(f"() => {TICK}.fill === '{light[1]}'")
        assert colours(page) == light
    with opened(chromium, report, scheme="dark") as page:
        ready(page)
        draw(page, 1)
        assert colours(page) == dark


def test_a_chart_zooms_and_tells_what_is_under_the_mouse(chromium: Any, report: Path) -> None:
    with opened(chromium, report) as page:
        ready(page)
        draw(page, 1)
        chart = page.locator("figure[data-chart=front]").first
        ticks = chart.locator(".ytick text")
        before = ticks.all_inner_texts()
        chart.locator("[data-zoom=in]").click()
        page.wait_for_timeout(50)
        inside = ticks.all_inner_texts()
        assert inside != before
        chart.locator("[data-zoom=reset]").click()
        page.wait_for_timeout(50)
        assert ticks.all_inner_texts() == before
        cells = [cell for cell in data(page, "cells") if cell["front"] == 0]
        told = hover(page, chart)
        assert "P(front)" in told and any(cell["campaign"] in told for cell in cells)


def test_long_tables_turn_pages_and_sort(chromium: Any, report: Path) -> None:
    with opened(chromium, report, idle=False) as page:
        ready(page)
        rows = page.locator("#cells tbody tr")
        first = rows.first.get_attribute("data-cell")
        page.locator("#cells-pager [data-page=next]").click()
        assert rows.first.get_attribute("data-cell") != first
        assert "26 to" in page.locator("#cells-pager .where").inner_text()
        cells = data(page, "cells")
        for ends in (min, max):
            page.locator("#cells [data-sort=ms]").click()
            assert cells[int(rows.first.get_attribute("data-cell"))]["ms"] == ends(cell["ms"] for cell in cells)
        assert page.locator("#cells th[aria-sort]").count() == 1


def test_on_paper_everything_is_there_and_nothing_to_press(chromium: Any, report: Path, tmp_path: Path) -> None:
    with opened(chromium, report, scheme="dark") as page:
        ready(page)
        page.wait_for_function("() => window.Plotly !== undefined")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for name in html.TITLES:
            assert page.locator(f"#{name}").is_visible()
        assert page.locator("details:not([open])").count() == 0
        assert page.locator("details.claim .evidence:visible").count() == page.locator("details.claim").count()
        assert page.locator("#cells tbody tr").count() == len(data(page, "cells"))
        assert page.locator("nav:visible, select:visible, input:visible, [data-zoom]:visible").count() == 0
        charts = page.locator("figure[data-chart]:visible")
        assert charts.count() > 2
        assert charts.evaluate_all("all => all.filter(one => !one.querySelector('.main-svg')).length") == 0
        assert page.evaluate("checks.pale()") == []
        page.screenshot(path=tmp_path / "print.png")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen")
        assert page.locator("details.claim[open]").count() == 0
        assert page.locator("#cells tbody tr").count() == 25
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        page.pdf(path=tmp_path / "report.pdf", format="A4")
        assert (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n") > 3


def test_the_download_is_the_data_of_the_page(chromium: Any, report: Path) -> None:
    with opened(chromium, report, idle=False) as page:
        ready(page)
        packed = page.locator("[data-download=csv]").get_attribute("href").partition(",")[2]
        with page.expect_download() as download:
            page.locator("[data-download=csv]").click()
        assert download.value.suggested_filename == "mobench-cells.csv"
        text = download.value.path().read_text()
        assert text == gzip.decompress(base64.b64decode(packed)).decode()
        rows, cells = list(csv.DictReader(io.StringIO(text))), data(page, "cells")
        assert len(rows) == len(cells)
        assert {f"{float(row['p50_ms']):.6g}" for row in rows} == {f"{cell['ms']:.6g}" for cell in cells}


def test_a_hostile_name_stays_text(chromium: Any, report: Path) -> None:
    with opened(chromium, report) as page:
        ready(page)
        draw(page, 2)
        page.locator("#fronts select[data-filter=family]").select_option(NASTY)
        assert shown(page, "cells-count")[0] == 1
        assert NASTY[:20] in page.locator("#cells tbody").inner_text()
        for chart in page.locator("figure[data-chart=front]:visible").all():
            assert "onerror" in hover(page, chart)
        assert page.locator("img, image[href]").count() == 0


def test_five_hundred_campaigns_open(chromium: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(html.render(html.gather(many(tmp_path, 500, ("int8",)))), encoding="utf-8")
    assert file.stat().st_size < MOST_BYTES
    with opened(chromium, file, idle=False) as page:
        ready(page)
        ours = sum(cell["device"].startswith("Cortex-Z") for cell in data(page, "cells"))
        assert ours == 2000 and shown(page, "cells-count")[0] >= ours
        page.locator("#fronts select[data-filter=device]").select_option("Cortex-Z1, 8 cores")
        assert shown(page, "cells-count")[0] == 400
