"""The time in `--at`, also across the change of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from time import tzset
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.cli.terminal.system_zone import SystemZone
from chargehand.domain.errors import BadRequest
from chargehand.planning.start_times import start_time

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 30, 12, 0, tzinfo=BERLIN)
SPRING_EVE = datetime(2027, 3, 27, 12, 0, tzinfo=BERLIN)  # the clocks go from 02:00 to 03:00 in the night after
AUTUMN_EVE = datetime(2026, 10, 24, 12, 0, tzinfo=BERLIN)  # and from 03:00 to 02:00


@pytest.mark.parametrize(
    ("said", "now", "meant"),
    [
        ("02:00", NOON, "2026-12-01T02:00:00+01:00"),
        ("2:00", NOON, "2026-12-01T02:00:00+01:00"),
        ("13:30", NOON, "2026-11-30T13:30:00+01:00"),
        ("12:00", NOON, "2026-12-01T12:00:00+01:00"),
        ("18:00Z", NOON, "2026-11-30T18:00:00+00:00"),
        ("01:00+09:00", NOON, "2026-12-01T01:00:00+09:00"),
        ("2026-12-24T18:00", NOON, "2026-12-24T18:00:00+01:00"),
        ("2026-12-24 18:00", NOON, "2026-12-24T18:00:00+01:00"),
        ("2026-12-24T18:00:30Z", NOON, "2026-12-24T18:00:30+00:00"),
        ("2027-07-01T02:00", NOON, "2027-07-01T02:00:00+02:00"),
        ("04:00", SPRING_EVE, "2027-03-28T04:00:00+02:00"),
        ("04:00", AUTUMN_EVE, "2026-10-25T04:00:00+01:00"),
        ("2026-10-25T02:30+01:00", AUTUMN_EVE, "2026-10-25T02:30:00+01:00"),
    ],
)
def test_a_time_is_local_and_the_next_one(said: str, now: datetime, meant: str) -> None:
    assert start_time(said, now, BERLIN).isoformat() == meant


@pytest.mark.parametrize(
    ("said", "now", "why", "hint"),
    [
        ("2026-11-30T11:59", NOON, "is past; it is 2026-11-30 12:00 now", ""),
        ("02:30", SPRING_EVE, "2027-03-28 02:30 does not exist", "Write 2027-03-28T03:30,"),
        ("2027-03-28T02:30", NOON, "does not exist", "Write 2027-03-28T03:30,"),
        ("02:30", AUTUMN_EVE, "2026-10-25 02:30 comes twice", "2026-10-25T02:30+02:00 or 2026-10-25T02:30+01:00"),
        ("2026-10-25T02:00", AUTUMN_EVE, "comes twice", "2026-10-25T02:00+02:00"),
        ("tomorrow", NOON, "'tomorrow' is not a time", "Write 02:00"),
        ("2026", NOON, "is not a time", "Write 02:00"),
        ("2026-12-24", NOON, "is not a time", "Write 02:00"),
        ("25:00", NOON, "is not a time", "Write 02:00"),
        ("2026-02-30T02:00", NOON, "is not a time", "Write 02:00"),
        ("", NOON, "is not a time", "Write 02:00"),
    ],
)
def test_a_time_that_is_none_or_two_or_past_is_refused(said: str, now: datetime, why: str, hint: str) -> None:
    with pytest.raises(BadRequest) as caught:
        start_time(said, now, BERLIN)
    assert why in str(caught.value)
    assert hint in (caught.value.hint or "")


@given(
    st.integers(0, 2 * 366 * 86_400).map(lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)),
    st.times().map(lambda clock: f"{clock:%H:%M}"),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_a_time_of_day_is_within_a_day_and_shows_on_the_clock(now: datetime, said: str, name: str) -> None:
    zone = ZoneInfo(name)
    try:
        meant = start_time(said, now, zone)
    except BadRequest:
        days = [datetime.combine(now.astimezone(zone) + timedelta(days=n), time.fromisoformat(said)) for n in (0, 1)]
        assert any(len({day.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}) > 1 for day in days)
        return
    assert now < meant <= now + timedelta(hours=25)
    assert f"{meant.astimezone(zone):%H:%M}" == said


def test_the_zone_of_this_machine_knows_every_change_of_its_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    tzset()
    try:
        zone = SystemZone()
        for said, now in (("04:00", SPRING_EVE), ("04:00", AUTUMN_EVE), ("2027-07-01T02:00", NOON)):
            assert start_time(said, now, zone) == start_time(said, now, BERLIN)
        with pytest.raises(BadRequest, match="comes twice"):
            start_time("02:30", AUTUMN_EVE, zone)
        with pytest.raises(BadRequest, match="does not exist"):
            start_time("02:30", SPRING_EVE, zone)
    finally:
        monkeypatch.undo()
        tzset()
