"""The HTML report in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from load.report.browser import Browser, open_browser
from load.report.results import STREAM, interval, ordinary, plan, result
from tai_grpc.load.report.as_html import to_html
from tai_grpc.load.result import LoadResult

CHARTS = ("latency", "throughput", "percentiles", "histogram", "codes")
HOSTILE = """</script><script>document.title='owned'</script><img src="http://127.0.0.1:9/x" onerror="x()">"""


def _can_be_installed() -> bool:
    """What scripts/test-packages asks before it installs Chromium."""
    if shutil.which("apt-get") is None:
        return False
    if os.geteuid() == 0:
        return True
    sudo = shutil.which("sudo")
    return sudo is not None and subprocess.run([sudo, "-n", "true"], check=False).returncode == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing and not _can_be_installed() and "CI" not in os.environ:
        pytest.skip(f"there is no {' and no '.join(missing)} here, nor a way to install it")
    assert not missing, "scripts/test-packages installs the browser of these tests, and `make test` calls it"
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


class Site:
    """Serves one page at /report.html, and knows all that was asked for."""

    def __init__(self, page: str) -> None:
        self.page = page.encode()
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def _site(page: str) -> Iterator[Site]:
    site = Site(page)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(site.page)))
            self.end_headers()
            self.wfile.write(site.page)

        def log_message(self, *args: object) -> None:
            """Into no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}/report.html"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def _show(browser: Browser, made: LoadResult, folder: Path) -> str:
    """Open a report as a file, and return its address."""
    path = folder / "report.html"
    path.write_text(to_html(made), encoding="utf-8")
    browser.go("about:blank")
    browser.console()
    browser.requests()
    browser.go(path.as_uri())
    return path.as_uri()


def _boxes(browser: Browser, selector: str) -> list[list[float]]:
    """Width and height of what is drawn, of every element that is found."""
    found: list[list[float]] = browser.run(
        f"""return [...document.querySelectorAll({selector!r})].map((each) => {{
            const box = each.getBoundingClientRect();
            return [box.width, box.height];
        }});"""
    )
    return found


def _points(browser: Browser, chart: str, series: str) -> list[tuple[float, float]]:
    """The corners of a line, in the chart's own pixels."""
    path = f'#{chart} path[data-series="{series}"]'
    d: str = browser.run(f"return document.querySelector({path!r}).getAttribute('d')")
    corners = (corner.split(",") for corner in d.removeprefix("M").split("L"))
    return [(float(x), float(y)) for x, y in corners]


def test_every_chart_is_drawn_and_the_console_is_silent(browser: Browser, tmp_path: Path) -> None:
    _show(browser, ordinary(20), tmp_path)
    for chart in CHARTS:
        ((width, height),) = _boxes(browser, f"#{chart} .plot > svg")
        assert width > 300, chart
        assert height > 30, chart
    for chart, lines in {"latency": 3, "throughput": 2, "percentiles": 1}.items():
        boxes = _boxes(browser, f"#{chart} .plot path.line")
        assert len(boxes) == lines, chart
        assert all(width > 300 for width, _ in boxes), chart
    # The 99 % and the slowest rise and fall, and so does the percentile curve.
    assert all(height > 3 for _, height in _boxes(browser, "#latency path.line")[1:])
    assert _boxes(browser, "#percentiles path.line")[0][1] > 50
    assert sum(width > 1 for width, _ in _boxes(browser, "#histogram rect")) > 3
    assert len(_boxes(browser, "#codes rect")) == 2
    assert browser.console() == []


def test_lines_go_through_the_figures(browser: Browser, tmp_path: Path) -> None:
    """A run with one slow second: the peak is there, where it was, and as high as the axis says."""
    seconds = [interval(float(i), [4_000_000 if i == 3 else 2_000_000] * 100) for i in range(8)]
    _show(browser, result(seconds), tmp_path)
    points = _points(browser, "latency", "99 %")
    starts, ends = points[::2], points[1::2]
    assert len(starts) == 8
    heights = [y for _, y in starts]
    assert heights == [y for _, y in ends]
    assert heights.index(min(heights)) == 3
    floor = browser.run("""return Number(document.querySelector("#latency line.axis").getAttribute("y1"))""")
    assert (floor - heights[3]) / (floor - heights[0]) == pytest.approx(2, rel=0.01)
    assert [x for x, _ in starts[1:]] == [x for x, _ in ends[:-1]]
    left, right = browser.run(
        """return ["x1", "x2"].map((each) =>
            Number(document.querySelector("#latency line.axis").getAttribute(each)))"""
    )
    assert (starts[0][0], ends[-1][0]) == (left, right)
    assert starts[1][0] - starts[0][0] == pytest.approx((right - left) / 8, abs=0.2)


def test_a_rate_is_that_of_its_interval_alone(browser: Browser, tmp_path: Path) -> None:
    """Between a second in which calls failed and one in which none did there is no slope."""
    seconds = [interval(float(i), [2_000_000] * 100, failed=40 if i == 2 else 0) for i in range(4)]
    _show(browser, result(seconds), tmp_path)
    points = _points(browser, "throughput", "failed a second")
    assert len({y for _, y in points}) == 2
    assert points[3][0] == points[4][0]
    assert points[3][1] > points[4][1]


def test_no_text_is_cut_off(browser: Browser, tmp_path: Path) -> None:
    statuses = Counter({"OK": 1, "FAILED_PRECONDITION": 1_234_567, "WWWWWWWWWWWWWWWWWWWWWWW": 3})
    _show(browser, result([interval(0.0, [2_000_000])], statuses=statuses), tmp_path)
    outside = browser.run(
        """return [...document.querySelectorAll(".plot > svg text")].filter((each) => {
            const text = each.getBoundingClientRect(), box = each.ownerSVGElement.getBoundingClientRect();
            return text.left < box.left || text.right > box.right;
        }).map((each) => each.textContent)"""
    )
    assert outside == []


def test_no_card_touches_another(browser: Browser, tmp_path: Path) -> None:
    """With the errors, whose card is as wide as the others together."""
    _show(browser, ordinary(), tmp_path)
    gap = browser.run(
        """const cards = [...document.querySelectorAll(".tables .card")];
        const boxes = cards.map((each) => each.getBoundingClientRect());
        const errors = boxes.pop();
        return Math.min(...boxes.map((each) => errors.top - each.bottom));"""
    )
    assert gap == 16


def test_a_report_that_is_a_file_asks_for_nothing_else(browser: Browser, tmp_path: Path) -> None:
    address = _show(browser, ordinary(), tmp_path)
    assert browser.requests() == [address]


def test_a_report_that_is_served_asks_for_nothing_else(browser: Browser) -> None:
    with _site(to_html(ordinary(of=plan(name=HOSTILE)))) as site:
        browser.requests()
        browser.go(site.url)
        assert [url for url in browser.requests() if url != "about:blank"] == [site.url]
        assert site.asked == ["/report.html"]


def test_these_tests_would_see_a_request(browser: Browser) -> None:
    with _site('<!doctype html><img src="/picture.png"><p>a page that asks for a picture') as site:
        browser.requests()
        browser.go(site.url)
        assert any(url.endswith("/picture.png") for url in browser.requests())
        assert "/picture.png" in site.asked


def test_foreign_text_is_shown_and_never_run(browser: Browser, tmp_path: Path) -> None:
    made = ordinary(of=plan(name=HOSTILE, tags={HOSTILE: HOSTILE}), errors={f"UNKNOWN: {HOSTILE}": 3})
    address = _show(browser, made, tmp_path)
    assert browser.run("return document.querySelector('h1').textContent") == HOSTILE
    assert browser.run("return document.title") == f"{HOSTILE} - load report"
    assert browser.run("return document.querySelector('.tags b').textContent") == HOSTILE
    assert browser.run("return document.body.textContent.includes('UNKNOWN: </script>')")
    assert browser.run("return [document.images.length, document.scripts.length]") == [0, 2]
    assert (browser.requests(), browser.console()) == ([address], [])


def test_the_policy_of_the_page_stops_what_it_does_not_bring(browser: Browser, tmp_path: Path) -> None:
    """A second fence, should a text ever come through as markup."""
    _show(browser, ordinary(), tmp_path)
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'x = 1'}))"
    )
    browser.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    assert browser.run("return typeof x") == "undefined"
    said = " ".join(browser.console())
    assert "script-src" in said
    assert "img-src" in said


def test_pointing_at_a_chart_reads_it_out(browser: Browser, tmp_path: Path) -> None:
    made = ordinary(10)
    _show(browser, made, tmp_path)
    assert browser.run("return document.querySelector('#latency .tip').hidden") is True
    browser.run("document.getElementById('latency').scrollIntoView()")
    # Interval 4 of the ten that share the plot between its margins of 66 and 16.
    x, y = browser.run(
        """const box = document.querySelector("#latency .plot").getBoundingClientRect();
        return [box.left + 66 + (box.width - 66 - 16) * 0.45, box.top + 100];"""
    )
    browser.point_at(round(x), round(y))
    told = browser.run(
        "const tip = document.querySelector('#latency .tip'); return tip.hidden ? '' : tip.textContent"
    )
    p99 = made.intervals[4].latencies.percentile(99) / 1e6
    assert told.splitlines()[0] == "4 s to 5 s"
    assert f"99 %: {p99:.2f} ms" in told.splitlines()
    browser.point_at(1, 1)
    assert browser.run("return document.querySelector('#latency .tip').hidden") is True


def test_the_axis_can_be_switched_between_linear_and_logarithmic(browser: Browser, tmp_path: Path) -> None:
    _show(browser, ordinary(), tmp_path)
    line = "document.querySelector('#percentiles path.line').getAttribute('d')"
    before, name = browser.run(f"return [{line}, document.querySelector('#percentiles button').textContent]")
    browser.run("document.querySelector('#percentiles button').click()")
    after, other = browser.run(f"return [{line}, document.querySelector('#percentiles button').textContent]")
    assert {name, other} == {"linear", "logarithmic"}
    assert before != after
    assert "NaN" not in before + after


def test_light_and_dark_are_what_the_reader_prefers(browser: Browser, tmp_path: Path) -> None:
    _show(browser, ordinary(), tmp_path)
    shades = {}
    for mode in ("light", "dark"):
        wish = {"name": "prefers-color-scheme", "value": mode}
        browser.devtools("Emulation.setEmulatedMedia", features=[wish])
        color = browser.run("return getComputedStyle(document.body).backgroundColor")
        shades[mode] = sum(map(int, color.removeprefix("rgb(").rstrip(")").split(",")))
    assert shades["light"] > 600
    assert shades["dark"] < 150


def test_charts_follow_the_width_of_the_window(browser: Browser, tmp_path: Path) -> None:
    _show(browser, ordinary(), tmp_path)
    size = {"height": 900, "deviceScaleFactor": 1, "mobile": False}
    for width in (500, 1100):
        browser.devtools("Emulation.setDeviceMetricsOverride", width=width, **size)
        drawn = browser.run(
            """return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(
                [document.querySelector("#latency .plot > svg").viewBox.baseVal.width,
                document.querySelector("#latency .plot").clientWidth,
                document.documentElement.scrollWidth]))))"""
        )
        assert drawn[0] == drawn[1]
        assert drawn[2] <= width
    browser.devtools("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize(
    "made",
    [
        result(),
        result([interval(0, [], failed=3)]),
        result([interval(0, [5_000_000])]),
        result([interval(0, [5_000_000] * 9), interval(1, []), interval(2, [1_000])]),
        ordinary(3, 200, of=plan(method=STREAM)),
        ordinary(300, 20),
    ],
    ids=["nothing", "only failures", "one call", "a gap", "stream", "long"],
)
def test_any_run_has_a_page_without_an_error(browser: Browser, tmp_path: Path, made: LoadResult) -> None:
    """Where there is nothing to draw, a chart says so."""
    _show(browser, made, tmp_path)
    plots = browser.run(
        """return [...document.querySelectorAll(".plot")].map((each) =>
            each.querySelector("svg") ? each.innerHTML : each.textContent)"""
    )
    assert len(plots) == (6 if made.plan.method is STREAM else 5)
    assert all(plots)
    assert not any("NaN" in plot or "Infinity" in plot or "undefined" in plot for plot in plots)
    assert browser.console() == []
