"""What a seal and the end of a history tell."""

from __future__ import annotations

import pytest

from chargehand.domain import seals
from tests.builders import make_id

KEY, OTHER = seals.seal_key(b"k" * 32), seals.seal_key(b"o" * 32)


@pytest.mark.parametrize(
    ("sealed", "counted", "newest", "said"),
    [
        (5, 5, 5, None),
        (5, 5, None, None),  # pruned: the seal was kept
        (None, 5, 5, "seal is missing"),
        (5, 5, 6, "added after its seal"),
        (5, 6, 6, "added after its seal"),
    ],
)
def test_nothing_may_follow_the_seal_of_what_has_ended(
    sealed: int | None, counted: int, newest: int | None, said: str | None
) -> None:
    found = seals.check_end(sealed, counted, newest)
    assert (found is None) if said is None else (said in (found or ""))


def test_another_master_key_is_not_called_tampering() -> None:
    seal = seals.Seal(make_id("r"), 0, seals.mac(KEY, make_id("r"), []), key_name=seals.key_name(KEY))
    assert seals.check(KEY, seal, []) is None
    assert "another master key" in (seals.check(OTHER, seal, []) or "")
