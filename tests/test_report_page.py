"""The page of ``ma backtest --report`` as a reader gets it: in headless Chromium, on a screen, a phone and paper."""

from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest
from browsers import browser, opened
from playwright.sync_api import Browser
from prices import ma, new_home
from pypdf import PdfReader

from marketagent.report.html import page
from marketagent.report.model import Axis, Chart, Figure, Group, Heat, Page, Picker, Section, Series, Sheet, Table

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> \" onload='alert(3)' <!-- <script> \u2028 {{}}"
)
WORDS = ["backtest", "AAPL", "IBM", "MSFT", "--from", "2005-01-01", "-s", "sma_cross"]
RUN = ["--set", "fast=20", "--benchmark", "IBM", "--capacity"]
SECTIONS = (
    "Findings,Equity,Returns,Exposure and turnover,Contributions,Fills on price,Costs,"
    "Luck,Trials of this family,Notes,Provenance"
)
TITLES = ["Equity in USD, log scale", "Drawdown", "Rolling Sharpe ratio, one year"]
TITLES += ["Exposure, gross, as a share of equity", "Turnover a month, as a share of its mean equity"]
TITLES += ["Gain by symbol in USD", "AAPL: fills on price"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = new_home(tmp_path_factory.mktemp("report"))
    assert ma(home, *["fetch", "AAPL", "IBM", "MSFT", "--source", "sample"]).returncode == 0
    return home


@pytest.fixture(scope="module")
def report(home: Path) -> Path:
    return made(home, "run.html", *RUN)


def made(home: Path, name: str, *more: str) -> Path:
    path = home.parent / name
    done = ma(home, *WORDS, *more, "--report", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize(
    ("width", "height", "how"),
    [
        (1280, 900, {}),
        (390, 844, {"is_mobile": True, "has_touch": True, "device_scale_factor": 2}),
        (1280, 900, {"color_scheme": "dark"}),
    ],
    ids=["screen", "phone", "dark"],
)
def test_everything_is_drawn_and_nothing_is_asked_of_anybody(
    chromium: Browser, report: Path, width: int, height: int, how: dict[str, object]
) -> None:
    with opened(chromium, report, width, height, **how) as seen:
        charts = seen.charts
        assert [chart["title"] for chart in charts] == TITLES
        for chart in charts:
            assert min(chart["points"]) > 0, chart
            assert chart["shapes"] >= len(chart["points"]), chart
            assert chart["inside"], chart
            assert chart["whole"], chart
            assert chart["said"], chart
        assert seen.overflow == 0
        headings = seen.page.eval_on_selector_all("h2", "all => all.map(each => each.textContent)")
        seen.page.select_option("select", label="IBM")  # whose fills are shown
        assert (seen.charts[-1]["title"], seen.charts[-1]["said"][:8]) == ("IBM: fills on price", "IBM with")
        assert ",".join(heading.removesuffix(" in sample") for heading in headings) == SECTIONS
        assert "Equity in sample" in headings
        assert (seen.complaints, seen.asked) == ([], [report.as_uri()])


def test_on_paper_all_of_it_is_there_and_no_page_is_empty(chromium: Browser, report: Path, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    with opened(chromium, report, 1280, 900, color_scheme="dark") as seen:
        seen.page.pdf(path=paper, prefer_css_page_size=True, print_background=True)
        seen.page.emulate_media(media="print")
        seen.page.set_viewport_size({"width": 703, "height": 1000})  # what lies between the margins of A4
        seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert all(chart["inside"] and chart["whole"] for chart in seen.charts)
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
        seen.page.emulate_media(media="screen")
        seen.page.set_viewport_size({"width": 900, "height": 900})
        seen.page.wait_for_function("() => document.querySelector('.main-svg').getBoundingClientRect().width > 800")
        assert all(chart["inside"] and chart["whole"] for chart in seen.charts)
        assert seen.complaints == []
    pages = PdfReader(paper).pages
    texts = [normalize("NFKC", each.extract_text()) for each in pages]  # without ligatures
    assert 4 <= len(pages) <= 8
    assert min(len(text.split()) for text in texts) > 20
    assert {(round(each.mediabox.width), round(each.mediabox.height)) for each in pages} == {(595, 842)}
    for words in [*SECTIONS.split(",")[:7], "334", "Provenance", "data hash", *TITLES]:
        assert any(words in " ".join(text.split()) for text in texts), words


def test_a_sweep_shows_its_surface_and_its_best_combination_in_sample(chromium: Browser, home: Path) -> None:
    path = made(home, "sweep.html", "--set", "fast=10:30:10", "--set", "slow=40:80:20")
    with opened(chromium, path, 1280, 900) as seen:
        surface, *rest = seen.charts
        assert surface["title"] == "Sharpe ratio by fast and slow"
        assert surface["points"][0] == 3
        assert surface["shapes"] > 1  # the surface, and at least the mark of the chosen place
        assert [chart["title"] for chart in rest] == TITLES
        assert seen.page.inner_text(".judged") == "in sample: chosen on these very sessions"
        assert seen.page.locator("h2 .judged").count() == 8
        assert "Chosen: fast=20, slow=40, with the highest Sharpe ratio" in seen.page.inner_text("main")
        assert "chosen and judged in sample, of 9 combinations" in seen.page.inner_text("main")
        assert (seen.complaints, seen.asked) == ([], [path.as_uri()])


def test_whatever_a_text_holds_it_stays_text(chromium: Browser, tmp_path: Path) -> None:
    axis, named = Axis("number", title=HOSTILE), Axis("category", title=HOSTILE)
    lines = Series(HOSTILE, "main", [1.0, 2.0, 3.0], [1.0, None, 2.0], [HOSTILE] * 3)
    chart = Chart(HOSTILE, HOSTILE, axis, axis, [lines, lines], HOSTILE, choice=HOSTILE)
    mark = Series(HOSTILE, "chosen", ["a"], ["b"])
    cells = [[HOSTILE, HOSTILE]]
    section = Section(
        HOSTILE,
        [
            chart,
            Picker(HOSTILE, HOSTILE, [chart, chart]),
            Heat(HOSTILE, HOSTILE, named, named, ["a", HOSTILE], ["b"], [[1.0, None]], cells, [mark, mark], HOSTILE),
            Table(HOSTILE, [HOSTILE, HOSTILE], cells, note=HOSTILE),
        ],
        HOSTILE,
    )
    figure = Figure(HOSTILE, HOSTILE, HOSTILE)
    path = tmp_path / "hostile.html"
    path.write_text(
        page(Page(Sheet(HOSTILE, HOSTILE, [figure], [Group(HOSTILE, [figure])]), [section])), encoding="utf-8"
    )
    with opened(chromium, path, 1280, 900) as seen:
        seen.page.select_option("select", index=1)
        seen.page.evaluate("Plotly.Fx.hover('chart0', [{curveNumber: 0, pointNumber: 0}])")
        seen.page.wait_for_selector("#chart0 .hovertext")
        seen.page.locator("#chart2 .nsewdrag").hover(position={"x": 60, "y": 20}, force=True)
        seen.page.wait_for_selector("#chart2 .hovertext")
        assert "alert(1)" in seen.page.inner_text("h1")
        assert seen.page.locator("main img, main script").count() == 0
        assert (seen.complaints, seen.asked) == ([], [path.as_uri()])
