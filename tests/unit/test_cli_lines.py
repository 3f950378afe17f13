"""Small formats, what may reach a terminal, and how answers are understood."""

import asyncio
from datetime import UTC, datetime

import pytest

from chargehand.app.doctor import Check, is_sound
from chargehand.cli.show.checks import check_lines
from chargehand.cli.terminal.exit_codes import exit_of
from chargehand.cli.terminal.interrupts import Interrupted, Interrupts
from chargehand.cli.terminal.keyboard import Decision, understood
from chargehand.cli.terminal.lines import Line, as_called, clock, columns, count, cut, lasting, said, short, visible
from chargehand.cli.terminal.screen import Screen
from chargehand.domain.states import RequestStatus


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0 s"),
        (0.44, "0.4 s"),
        (2, "2 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_nothing_that_steers_a_terminal_is_visible() -> None:
    nasty = "a\x1b[2Jb\x07c\u202ed\u2066e\x9bf\udc80g\u200bh\U000e0041"
    shown = visible(nasty)
    assert all(c.isprintable() for c in shown)
    assert [c for c in shown if c.isalpha()] == ["a", "J", "b", "c", "d", "e", "f", "g", "h"]
    assert visible("one\ntwo\tthree\u00a0four\r") == "one two three four "
    assert visible("Grüße, 世界, мир") == "Grüße, 世界, мир"


def test_markup_and_control_characters_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().show(Line("[bold red]x[/] \x1b[31m :warning:", "bad", 2))
    assert capsys.readouterr().out == "  [bold red]x[/] \N{REPLACEMENT CHARACTER}[31m :warning:\n"


def test_with_json_nothing_else_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.show(Line("not this"))
    screen.answer({"at": datetime(2026, 1, 2, tzinfo=UTC), "text": "\x1b"})
    assert capsys.readouterr().out == '{\n  "at": "2026-01-02T00:00:00+00:00",\n  "text": "\\u001b"\n}\n'


def test_small_formats() -> None:
    assert (count(1, "step"), count(0, "step")) == ("1 step", "0 steps")
    assert cut("abcdef", 4) == "abc…"
    assert short("4f5c0001-0000-4000") == "4f5c0001"
    assert said(["a", 1]) == "a, 1"
    assert said("8421, host = db") == '"8421, host = db"', "one value must not look like two"
    assert [said(odd) for odd in ("", " a", "secret:x", 'say "hi"', "a\nb")] == [
        *('""', '" a"', '"secret:x"', r'"say \"hi\""', r'"a\nb"')
    ]
    assert said(["a, b", "c"]) == '"a, b", c'
    assert said("x" * 300, 10) == "xxxxxxxxx… (300 characters)"
    assert said("x" * 10, 10) == "x" * 10
    assert said({"a": [{}]}) == '{"a": [{}]}'
    assert len(clock(datetime(2026, 1, 2, tzinfo=UTC))) == len("2026-01-02 00:00:00")


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    lines = columns([("a", "long words"), ("bbb", "c")], ("ID", "WORDS"))
    assert [line.text for line in lines] == ["ID   WORDS", "a    long words", "bbb  c"]


@pytest.mark.parametrize(
    ("typed", "decision"),
    [
        ("y", Decision("yes")),
        (" YES ", Decision("yes")),
        ("n", Decision("no")),
        ("?", Decision("why")),
        ("w restart it first", Decision("words", "restart it first")),
        ("w", Decision("words")),
        ("", Decision("unclear")),
        ("yes please and delete everything", Decision("unclear")),
        ("restart it first", Decision("unclear")),
    ],
)
def test_an_answer_is_taken_only_when_it_is_clear(typed: str, decision: Decision) -> None:
    assert understood(typed) == decision


def test_every_status_has_an_exit_code() -> None:
    codes = {status: exit_of(status) for status in RequestStatus}
    assert codes[RequestStatus.COMPLETED] == 0
    assert codes[RequestStatus.REFUSED] == 4
    assert {codes[s] for s in (RequestStatus.ASKING, RequestStatus.AWAITING_APPROVAL, RequestStatus.IN_REVIEW)} == {3}
    assert [status for status, code in codes.items() if code == 0] == [RequestStatus.COMPLETED]


async def test_leaving_ends_what_is_under_way() -> None:
    interrupts, ended = Interrupts(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    asyncio.get_running_loop().call_soon(interrupts.asked.set)
    with pytest.raises(Interrupted):
        await interrupts.unless_asked(work())
    assert ended.is_set()


async def test_work_that_is_not_interrupted_gives_its_result_or_its_error() -> None:
    async def broken() -> int:
        raise ValueError("no")

    assert await Interrupts().unless_asked(asyncio.sleep(0, 7)) == 7
    with pytest.raises(ValueError, match="no"):
        await Interrupts().unless_asked(broken())


def test_a_check_that_is_not_ok_says_what_to_do() -> None:
    checks = [Check("home", "ok", "fine", "never shown"), Check("database", "fail", "gone", "Start it.")]
    assert [line.text for line in check_lines(checks)] == ["ok    home      fine", "fail  database  gone", "Start it."]
    assert not is_sound(checks)
    assert is_sound(checks[:1])


def test_advice_names_our_commands_as_they_are_called_here() -> None:
    assert as_called("  chargehand why e49   every decision", "./run") == "  ./run why e49   every decision"
    assert as_called("Run `chargehand agent join TOKEN`.", "./run") == "Run `./run agent join TOKEN`."
    assert as_called("chargehand why", None) == "chargehand why"
    for untouched in ("the chargehand handed it out", "/usr/bin/chargehand why", "my-chargehand why"):
        assert as_called(untouched, "./run") == untouched
