"""The promises that the simulation checks are on the page in the same words."""

from bench.model.promises import PROMISES
from tests.docs.test_pages import plain, rows, section


def test_every_promise_is_on_the_page_and_no_other() -> None:
    promises, _, _figures = section("reliability.md", "Simulation").partition("| `schedules`, `seconds` |")
    told = {plain(name): words for name, words in rows(promises, 2)}
    assert told == PROMISES
