"""When a request may start, from the words of whoever asks: `02:00`, or `2026-11-23T02:00`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from chargehand.domain.errors import BadRequest

HINT = "Write 02:00 for the next two o'clock, or 2026-11-23T02:00."
_TIME_OF_DAY = re.compile(r"T?\d{1,2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?")
_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{1,2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?")


def start_time(said: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the time that is meant, in `zone` unless the words name an offset; of a time of day the next one.

    Raises `BadRequest` for what is no time, is past, or is a time that the clocks of `zone` skip or show twice.
    """
    text = said.strip()
    if _DATE_AND_TIME.fullmatch(text):
        meant = _placed(_parsed(text), zone)
        if meant <= now:
            raise BadRequest(f"{said} is past; it is {now.astimezone(zone):%Y-%m-%d %H:%M} now", hint=HINT)
        return meant
    if _TIME_OF_DAY.fullmatch(text):
        return _next(_time_of_day(text), now, zone)
    raise BadRequest(f"{said!r} is not a time", hint=HINT)


def _next(clock: time, now: datetime, zone: tzinfo) -> datetime:
    """Return the next time of day that is still to come: today's, else tomorrow's."""
    today = now.astimezone(clock.tzinfo or zone).date()
    for day in (today, today + timedelta(days=1)):
        meant = datetime.combine(day, clock)
        if _latest(meant, zone) > now:
            return _placed(meant, zone)
    raise AssertionError("tomorrow's is always to come")


def _latest(meant: datetime, zone: tzinfo) -> datetime:
    """Return when a time has certainly come, also where the clocks show it twice."""
    return meant if meant.tzinfo else meant.replace(tzinfo=zone, fold=1).astimezone(UTC)


def _placed(meant: datetime, zone: tzinfo) -> datetime:
    """Return a time with its offset. Raises `BadRequest` where `zone` has none or two for it."""
    if meant.tzinfo is not None:
        return meant
    first, second = (meant.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return _fixed(first)
    shown = f"{meant:%Y-%m-%d %H:%M}"
    ways = [f"{meant:%Y-%m-%dT%H:%M}{_offset(one)}" for one in (first, second)]
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == meant:
        raise BadRequest(f"{shown} comes twice: the clocks go back then", hint=f"Write {ways[0]} or {ways[1]}.")
    after = first.astimezone(UTC).astimezone(zone)  # as far behind the change as it was meant to be
    raise BadRequest(
        f"{shown} does not exist: the clocks go forward then", hint=f"Write {after:%Y-%m-%dT%H:%M}, or another time."
    )


def _fixed(meant: datetime) -> datetime:
    """Return the same moment with a fixed offset, which every reader computes with in the same way."""
    return datetime.fromisoformat(meant.isoformat())


def _offset(meant: datetime) -> str:
    return meant.isoformat()[-6:]


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(_two_digits(text))
    except ValueError as error:
        raise BadRequest(f"{text!r} is not a time: {error}", hint=HINT) from error


def _time_of_day(text: str) -> time:
    try:
        return time.fromisoformat(_two_digits(text))
    except ValueError as error:
        raise BadRequest(f"{text!r} is not a time: {error}", hint=HINT) from error


def _two_digits(text: str) -> str:
    """Write 2:00 as 02:00, as people do not."""
    return re.sub(r"(^|[T ])(\d):", r"\g<1>0\2:", text)
