"""Where the server's files go, and who may reach them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from chargehand import folders
from chargehand.private_postgres.account import Account, nobody
from chargehand.private_postgres.errors import HomeUnusable
from chargehand.private_postgres.wire import socket_file

SYSTEM_PLACE = Path("/var/lib/chargehand-postgres")  # not below /var/lib/chargehand: that may be a home, and 0700
SHORT = Path("/tmp")  # not XDG_RUNTIME_DIR: it goes at log-out, the server stays
LONGEST_SOCKET = 100  # bytes; the kernel's limit is 107 on Linux, 103 on macOS
LONGEST_PLACE = 800  # bytes; PostgreSQL cuts paths at 1,024, and its own longest below ours has 150
SHELL = set('"$`\\\n')  # pg_ctl and initdb put paths between double quotes in a shell command
# A socket path of these needs no quoting in a URL, in the settings (a list) and in asyncpg (a comma separates hosts).
PLAIN = re.compile(r"[A-Za-z0-9/._-]+")


@dataclass(frozen=True)
class Place:
    """The directory of one home's server. `root` has no symbolic link in it."""

    root: Path

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def conf(self) -> Path:
        return self.root / "chargehand.conf"

    def cluster(self, major: int) -> Path:
        """Return the directory of one major version, which belongs to the server's account."""
        return self.root / f"pg{major}"

    def data(self, major: int) -> Path:
        return self.cluster(major) / "data"

    def major(self) -> int | None:
        """Return the newest major version that has data here."""
        found = (path.parent.parent.name.removeprefix("pg") for path in self.root.glob("pg*/data/PG_VERSION"))
        return max((int(number) for number in found if number.isdigit()), default=None)


def locate(home: Path) -> Place | None:
    """Return the home's place, None when it has none yet. Raises `HomeUnusable` when it was moved away."""
    link = home / "postgres"
    if link.exists():
        return Place(link.resolve())
    if link.is_symlink():
        raise HomeUnusable(
            f"the database of {home} should be in {link.readlink()}, which does not exist",
            hint=f"put it back, or remove {link} to start with an empty database",
        )
    return None


def establish(home: Path) -> Place:
    """Return the home's place, made now if there is none. Call it under the home's lock."""
    check_name(home)
    place = locate(home)
    if place is None:
        place = Place(_outside(home) if os.geteuid() == 0 and not _open_to_all(home) else home.resolve() / "postgres")
        # 0711: the server's account passes through to what belongs to it.
        folders.make(place.root, 0o711)
        if place.root != home.resolve() / "postgres":
            (home / "postgres").symlink_to(place.root)
    return place


def make_home(home: Path) -> None:
    """Make the home. Root's lets the server's user pass, so that the database can be inside; what is secret is 0600."""
    folders.make_home(home)


def check_name(home: Path) -> None:
    """Raise `HomeUnusable` for a path PostgreSQL's own tools cannot handle."""
    if len(os.fsencode(home.resolve())) > LONGEST_PLACE:
        raise HomeUnusable(f"the path {home} is too long", hint="set CHARGEHAND_HOME to a shorter path")
    if SHELL & set(str(home.resolve())):
        raise HomeUnusable(f"PostgreSQL's tools cannot use the path {home}: it has a quote, `$` or `\\` in it")


def blocked_at(path: Path, account: Account) -> Path | None:
    """Return the first directory on the way down to `path` that the account may not enter."""
    return next((step for step in [*reversed(path.parents), path] if not _may_enter(step.stat(), account)), None)


def fits(socket_dir: Path) -> bool:
    """Say whether a socket can be in that directory, and be named in a URL as it is."""
    path = str(socket_file(socket_dir)) + ".lock"
    return len(os.fsencode(path)) <= LONGEST_SOCKET and PLAIN.fullmatch(path) is not None


def socket_dir(place: Place, account: Account) -> Path:
    """Return the directory for the socket: in the place, or a short one named after it."""
    inside = place.root / "socket"
    name = f"chargehand-{account.uid}-{hashlib.sha256(os.fsencode(place.root)).hexdigest()[:12]}"
    return inside if fits(inside) else SHORT / name


def make_private(path: Path, account: Account) -> None:
    """Make a directory that only the account can enter. Raises `HomeUnusable` when somebody else made it first."""
    try:
        path.mkdir(mode=0o700)
        account.own(path, 0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
            raise HomeUnusable(
                f"{path} is not a directory that only {account.name} can enter",
                hint=f"if `ls -ld {path}` shows that it is yours, remove it; else set CHARGEHAND_HOME to a short path",
            ) from None


def give(folder: Path, account: Account) -> None:
    """Give a directory of a server's, with all that is `nobody`'s in it, to an account.

    Until it is done the top is root's alone, so that nobody else gets in, and so that it is done again when this is
    killed. No link is followed, whatever was put there.
    """
    os.chown(folder, 0, 0, follow_symlinks=False)
    folder.chmod(0o700)
    for _, below, files, place in os.fwalk(folder, follow_symlinks=False):
        for name in (*below, *files):
            if os.stat(name, dir_fd=place, follow_symlinks=False).st_uid == nobody():
                os.chown(name, account.uid, account.gid, dir_fd=place, follow_symlinks=False)
    os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def _open_to_all(home: Path) -> bool:
    return all(step.stat().st_mode & stat.S_IXOTH for step in [home.resolve(), *home.resolve().parents])


def _outside(home: Path) -> Path:
    """Make a directory for a home that the server's user cannot enter. A home made anew must find no old database."""
    folders.make(SYSTEM_PLACE, 0o711, above=0o755)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", home.resolve().name[:20])
    place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=SYSTEM_PLACE))
    place.chmod(0o711)
    folders.write(place / "home", f"{home.resolve()}\n".encode(), 0o644)
    return place


def _may_enter(directory: os.stat_result, account: Account) -> bool:
    if directory.st_uid == account.uid:
        return bool(directory.st_mode & stat.S_IXUSR)
    if directory.st_gid == account.gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)
