"""What is decided about archives without opening any: addresses without passwords, and which programs fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.backup.programs import find, without_password
from chargehand.domain.errors import BadConfiguration
from chargehand.store.backup_copies import with_database


@pytest.mark.parametrize(
    ("dsn", "address", "password"),
    [
        ("postgresql://ann:s%40cret@db:5432/work", "postgresql://ann@db:5432/work", "s@cret"),
        ("postgresql://ann@db/work?sslmode=require", "postgresql://ann@db/work?sslmode=require", None),
        ("postgresql://ann@db/work?password=s&port=1", "postgresql://ann@db/work?port=1", "s"),
        ("postgresql:///work", "postgresql:///work", None),
        (
            "postgresql://postgres@/chargehand?host=/tmp/a.b-c&port=5432",
            "postgresql://postgres@/chargehand?host=/tmp/a.b-c&port=5432",
            None,
        ),
    ],
)
def test_a_password_is_never_an_argument(dsn: str, address: str, password: str | None) -> None:
    assert without_password(dsn) == (address, password)


def test_another_database_of_the_same_server() -> None:
    assert with_database("postgresql://a:b@h/one?host=/x", 'o"/d') == "postgresql://a:b@h/o%22%2Fd?host=/x"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories with pg_dump of 16 and 18."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for major in (16, 18):
        program = tmp_path / str(major) / "pg_dump"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {major}.2 (Some Linux {major}.2-1)'\n")
        program.chmod(0o755)
    return [tmp_path / "18", tmp_path / "16", tmp_path / "none"]


@pytest.mark.parametrize(("server", "chosen"), [(14, 16), (16, 16), (17, 18), (18, 18)])
def test_the_oldest_program_that_fits_the_server(installed: list[Path], server: int, chosen: int) -> None:
    assert find("pg_dump", server, server, installed).major == chosen


@pytest.mark.parametrize(("at_least", "server"), [(19, 19), (17, 16)])
def test_no_program_that_fits_is_an_error_that_says_which_would(
    installed: list[Path], at_least: int, server: int
) -> None:
    with pytest.raises(BadConfiguration, match=f"PostgreSQL {at_least} .* found: 16, 18"):
        find("pg_dump", at_least, server, installed)
