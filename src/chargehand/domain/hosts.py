"""Hosts by name, as offers, plans and orders carry them: few by name, many by their number and digest.

An agent resolves the patterns of its playbooks when it looks for offers. The plan names the hosts, its digest covers
them, and the run is limited to exactly these names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from chargehand.domain.value import Value

LOCALHOST = "localhost"  # the name of this machine, whichever of its names a playbook uses
MOST_HOSTS = 50_000  # of one inventory
MOST_NAMED, MOST_CHARACTERS = 50, 2_000
"""Up to so many hosts are named one by one: an agent's offers travel in one message of 1 MB."""
SHOWN = 5  # of more hosts than that, and of each group: enough to recognise them
MOST_GROUPS = 30  # of an inventory that values of parameters may name
LONGEST = 253  # characters of a name in the DNS


def _name(text: str) -> str:
    if not text.isprintable() or " " in text:
        raise ValueError("not the name of a host")
    return text


Name = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_name)]


class Hosts(Value):
    """A set of hosts. `names` are all of them, in order, or the first; `digest` is that of all (`digest_of`)."""

    names: tuple[Name, ...] = Field(default=(), max_length=MOST_NAMED)
    count: int = Field(default=0, ge=0, le=MOST_HOSTS)
    digest: str = Field(pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _whole(self) -> Hosts:
        if len(self.names) > self.count or (self.complete and digest_of(self.names) != self.digest):
            raise ValueError("the names, their number and their digest do not fit together")
        return self

    @property
    def complete(self) -> bool:
        """Whether all hosts are in `names`."""
        return len(self.names) == self.count


class Targets(Value):
    """What an offer says of the hosts that it is for.

    `always` are those that its plays name. `by` are parameters whose values name further ones; what stands beside each
    is for when it is not given, None when it must be. Values may be hosts out of `known` or groups out of `groups`.
    Where no parameter names hosts there is no `known`, and of each group `groups` has the hosts that are in `always`.
    """

    always: Hosts
    by: dict[str, Hosts | None] = Field(default={}, max_length=MOST_GROUPS)
    known: Hosts | None = None
    groups: dict[str, Hosts] = Field(default={}, max_length=MOST_GROUPS)


class Limit(Value):
    """Names of hosts and groups as a request says them: the work is `only` for those, or for all `without` those."""

    only: tuple[Name, ...] = Field(default=(), max_length=MOST_NAMED)
    without: tuple[Name, ...] = Field(default=(), max_length=MOST_NAMED)

    @property
    def said(self) -> bool:
        """Whether the request limits it at all."""
        return bool(self.only or self.without)


UNLIMITED = Limit()


def digest_of(names: Iterable[str]) -> str:
    """Return the hex SHA-256 of a set of names: each on its line, in the order of code points, each once."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted({*names})).encode()).hexdigest()


def hosts_of(names: Iterable[str], *, most: int = MOST_NAMED) -> Hosts:
    """Return a set of hosts; more than `most` are cut to the first. Raises ValueError for what is no name."""
    all_names = tuple(sorted({*names}))
    whole = len(all_names) <= most and sum(map(len, all_names)) <= MOST_CHARACTERS
    return Hosts(names=all_names if whole else all_names[:SHOWN], count=len(all_names), digest=digest_of(all_names))


def united(parts: Iterable[Hosts]) -> tuple[Hosts, ...]:
    """Return sets that hold the same hosts, each once where they are named: the cut ones first, then all names."""
    given = {part.digest: part for part in parts if part.count}
    cut = [given[digest] for digest in sorted(given) if not given[digest].complete]
    named = sorted({name for part in given.values() if part.complete for name in part.names})
    return (*cut, *map(hosts_of, _pieces(named)))


def _pieces(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield the names in as many pieces as it takes to name each of them."""
    piece: list[str] = []
    for name in names:
        if len(piece) == MOST_NAMED or sum(map(len, piece)) + len(name) > MOST_CHARACTERS:
            yield piece
            piece = []
        piece.append(name)
    if piece:
        yield piece


def told(parts: Iterable[Hosts]) -> str:
    """Return hosts for people: `12 hosts: web1, web2, web3 and 9 more`; of one only its name."""
    given = tuple(parts)
    count, names = sum(part.count for part in given), [name for part in given for name in part.names]
    if count <= 1:
        return "no host" if not names else "this machine (localhost)" if names == [LOCALHOST] else names[0]
    shown = names if count == len(names) <= SHOWN else names[: SHOWN - 2]
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    most = "" if all(part.complete for part in given) or len(given) == 1 else "up to "  # a host may be in two of them
    return f"{most}{count:,} hosts: {', '.join(shown)}{more}"


def in_words(targets: Targets) -> str:
    """Return what an offer is for, for people."""
    parts = [told([targets.always])] if targets.always.count else []
    parts += [f"what {name} names{_unless(default)}" for name, default in targets.by.items()]
    return ", and ".join(parts)


def _unless(default: Hosts | None) -> str:
    return "" if default is None else f" ({told([default])} unless it is given)"


def all_known(parts: Iterable[Hosts], lists: Mapping[str, Iterable[str]]) -> frozenset[str] | None:
    """Return all names of a plan's hosts; `lists` are those that were cut, by digest. None when one is missing."""
    names: set[str] = set()
    for part in parts:
        found = part.names if part.complete else tuple(lists.get(part.digest, ()))
        if len({*found}) != part.count or digest_of(found) != part.digest:
            return None
        names |= {*found}
    return frozenset(names)
