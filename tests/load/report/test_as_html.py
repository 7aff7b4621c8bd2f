"""What of the HTML report needs no browser."""

from collections import Counter
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from load.report.results import CONSTANT_RATE, histogram, ordinary, plan, result
from tai_grpc.load.report.as_html import MOST_ERRORS, to_html
from tai_grpc.load.report.notes import notes
from tai_grpc.load.result import HostResult, LoadResult


class Page(HTMLParser):
    """The tags and the text of a page, but not what its scripts and styles hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text += data + "\n"


def _tags(made: LoadResult) -> list[tuple[str, dict[str, str | None]]]:
    return Page(to_html(made)).tags


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_no_text_becomes_markup(name: str, error: str) -> None:
    plain = _tags(ordinary(2, 5, of=plan(name="n", tags={"t": "u"}), errors={"UNKNOWN: x": 1}))
    foreign = _tags(ordinary(2, 5, of=plan(name=name, tags={"t": error}), errors={f"UNKNOWN: {error}": 1}))
    assert foreign == plain


def test_nothing_in_the_page_names_an_address_that_a_browser_would_ask() -> None:
    loaded = [
        value
        for _, attributes in _tags(ordinary())
        for key, value in attributes.items()
        if key in ("src", "href")
    ]
    assert loaded == ["data:,"]


def test_the_page_tells_the_figures_without_its_script() -> None:
    hosts = [HostResult(name, histogram([5_000_000]), Counter(OK=1)) for name in ("a:1", "b:2")]
    made = ordinary(
        10, of=plan(schedule=CONSTANT_RATE, name="n"), hosts=hosts, missed=7, send_lag=histogram([5])
    )
    text = Page(to_html(made)).text
    for told in (
        "5,005",
        "500.50",
        "UNAVAILABLE: the server is gone",
        "99.9 %",
        "a:1",
        "b:2",
        "Missed sends",
    ):
        assert told in text
    for note in notes(made):
        assert note in text


def test_of_very_many_errors_the_most_frequent_are_listed() -> None:
    errors = {f"UNKNOWN: {i}": i + 1 for i in range(MOST_ERRORS + 5)}
    text = Page(to_html(result(errors=errors))).text
    assert f"UNKNOWN: {MOST_ERRORS + 4}\n" in text
    assert "UNKNOWN: 0\n" not in text
    assert "and 5 other texts" in text
