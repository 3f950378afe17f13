"""The database's URL: libpq's parameters are taken or named, and no part of a password is ever told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.domain.errors import DatabaseRefuses
from chargehand.store.address import TIMEOUT, parse

SECRETS = ("S3cret/Tail", "S3cret#Tail", "S3cret?Tail", "pw@x:S3cretTail/y", "S3cret:Tail/")


@pytest.mark.parametrize("password", SECRETS)
def test_a_password_that_is_not_quoted_is_refused_and_not_told(password: str) -> None:
    with pytest.raises(DatabaseRefuses) as caught:
        parse(f"postgresql://app:{password}@127.0.0.1/app")
    assert "S3cret" not in f"{caught.value} {caught.value.hint}"
    assert "Tail" not in f"{caught.value} {caught.value.hint}"
    assert "%2F" in caught.value.hint


@given(st.text(alphabet="aA0/#?:@%&= ", min_size=1, max_size=12))
def test_no_password_is_told_whatever_it_holds(password: str) -> None:
    marked = f"Zq{password}Zq"
    told = ""
    try:
        parse(f"postgresql://app:{marked}@127.0.0.1/app")
    except DatabaseRefuses as error:
        told = f"{error} {error.hint}"
    assert "Zq" not in told


def test_a_usual_url_is_left_as_it_is() -> None:
    for url in (
        "postgresql://ann:pw@db.example.org/chargehand",
        "postgres://ann@[::1]:5433/chargehand",
        "postgresql://ann@a:5432,b:5433/chargehand",
        "postgresql:///chargehand",
    ):
        assert parse(url) == (url, TIMEOUT, {})


def test_what_libpq_knows_is_taken() -> None:
    found = parse(
        "postgresql://ann@db/c?connect_timeout=3&channel_binding=prefer&keepalives=1&keepalives_idle=30"
        "&sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&target_session_attrs=read-write&application_name=x"
    )
    assert found.timeout == 3
    assert found.settings == {"tcp_keepalives_idle": "30"}
    assert found.dsn == (
        "postgresql://ann@db/c?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&target_session_attrs=read-write"
        "&application_name=x"
    )
    assert found.options == {"dsn": found.dsn, "timeout": 3}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://ann@db/c", "must begin with postgresql://"),
        ("chargehand", "must begin with postgresql://"),
        ("postgresql://ann@db:x1/c", "a port is not a number"),
        ("postgresql://ann@db/c?pool_size=3", "the parameter 'pool_size' is not understood"),
        ("postgresql://ann@db/c?channel_binding=require", "channel_binding=require cannot be kept"),
        ("postgresql://ann@db/c?connect_timeout=soon", "connect_timeout is not a whole number"),
        ("postgresql://ann@db/c?keepalives_idle=1'; DROP", "keepalives_idle is not a whole number"),
    ],
)
def test_what_cannot_be_kept_is_named(url: str, told: str) -> None:
    with pytest.raises(DatabaseRefuses, match=told.replace("?", "\\?")):
        parse(url)
