"""The time zone of this machine, with every change of its clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class SystemZone(tzinfo):
    """`datetime.now().astimezone().tzinfo` is only today's offset: an hour off on the other side of a change."""

    def utcoffset(self, at: datetime | None, /) -> timedelta | None:
        return None if at is None else at.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, at: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, at: datetime | None, /) -> str | None:
        return None if at is None else at.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, at: datetime, /) -> datetime:
        local = at.replace(tzinfo=UTC).astimezone()
        return local.replace(tzinfo=self)
