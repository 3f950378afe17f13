"""Forms by which a value is told from a word: addresses, versions and times. Pure.

The patterns are parts of larger ones, for `re.VERBOSE` and without regard to case. Each takes a whole value or nothing:
`192.168.178.20` is never the version `192.168.17`. Repetitions are bounded.
"""

from __future__ import annotations

ENDS = r"(?!\w|[.:]\w)"  # no more of a value follows; the full stop or the colon of a sentence may
_BEGINS, _BEGINS_V6 = r"(?<![\w.])", r"(?<![\w.:])"
_GROUP = r"[0-9a-f]{1,4}"
_V4 = rf"{_BEGINS}\d{{1,3}}(?:\.\d{{1,3}}){{3}}"
_V6 = (
    rf"{_BEGINS_V6}(?=[0-9a-f:]{{0,39}}[0-9a-f])"
    rf"(?:(?:{_GROUP}:){{7}}{_GROUP}|(?:{_GROUP}(?::{_GROUP}){{0,6}})?::(?:{_GROUP}(?::{_GROUP}){{0,6}})?)"
)

NETWORK = rf"(?:{_V4}|{_V6})/\d{{1,3}}{ENDS}"
"""An address with the length of its prefix: `10.0.0.0/24`, `2001:db8::/32`."""

ENDPOINT = rf"(?:{_V4}|\[{_V6}\]):\d{{1,5}}{ENDS}"
"""An address with a port: `10.0.0.5:8080`, `[::1]:8080`."""

ADDRESS = rf"(?:{_V4}|\[{_V6}\]|{_V6}){ENDS}(?!/\d)"
"""An address alone. Four numbers are one: a version has three, or says so with a `v`."""

_SUFFIX = r"(?:-\w+(?:\.\d+)?)?"
VERSION = rf"{_BEGINS}(?:v\d{{1,9}}(?:\.\d{{1,9}}){{0,5}}|\d{{1,9}}(?:\.\d{{1,9}}){{2}}){_SUFFIX}{ENDS}"
"""`1.27.3`, `v2`, `v1.2.3.4-rc.1`. Two numbers, `1.27`, are a number."""

IMAGE = rf"[A-Za-z][\w./-]{{0,100}}:(?:v?\d{{1,9}}(?:\.\d{{1,9}}){{1,5}}{_SUFFIX}|v\d{{1,9}}|latest){ENDS}"
"""What a version is one of: `registry/shop:1.18`."""

RELEASE = rf"{_BEGINS}[A-Za-z][\w-]{{0,62}}\d(?:\.\d{{1,9}}){{1,5}}{_SUFFIX}{ENDS}"
"""A name with a version: `ubuntu-24.04`."""

TIME = rf"{_BEGINS_V6}(?:(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\s?[ap]m)?|(?:1[0-2]|0?[1-9])\s?[ap]m){ENDS}"
"""A time of day: `04:00`, `5 pm`."""
