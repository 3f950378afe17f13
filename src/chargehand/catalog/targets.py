"""The hosts that a task may touch: from what an offer says of its plays, and the values of a request. Pure.

There are never more than were named: a value is a host or a group that the offer lists, and is resolved here, when the
plan is made. Nothing in it is a pattern. A limit that the request sets leaves fewer of them, never others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from chargehand.catalog.hosts import is_one_host, locks
from chargehand.domain.errors import BadParameters
from chargehand.domain.hosts import LOCALHOST, UNLIMITED, Hosts, Limit, Targets, hosts_of, united
from chargehand.domain.intents import IntentSpec

MOST_VALUES = 500  # hosts that one request names one by one
CHOICES = 10  # hosts or groups that a refusal lists


def targeted(spec: IntentSpec, parameters: Mapping[str, JsonValue], limit: Limit = UNLIMITED) -> tuple[Hosts, ...]:
    """Return the hosts that an intent with these parameters may touch; nothing where its agent says nothing of hosts.

    Raises `BadParameters`, saying what to write, for a value that is neither a host nor a group, and for a limit that
    cannot be kept.
    """
    targets = spec.targets
    if targets is None:
        if limit.said:
            raise BadParameters(f"{spec.intent} says nothing of hosts, so it cannot be limited to some")
        return ()
    named = (part for name, default in targets.by.items() for part in _named(spec, targets, name, default, parameters))
    return _limited(targets, united([targets.always, *named]), limit)


def _limited(targets: Targets, all_of_it: tuple[Hosts, ...], limit: Limit) -> tuple[Hosts, ...]:
    left = united(_within(targets, all_of_it, name) for name in limit.only) if limit.only else all_of_it
    if not limit.without:
        return left
    out = united(_within(targets, all_of_it, name) for name in limit.without)
    if not all(part.complete for part in (*left, *out)):
        raise BadParameters("hosts can be left out of a few that are named, not of many", hint=_choices(targets))
    names = {name for part in left for name in part.names} - {name for part in out for name in part.names}
    if not names:
        raise BadParameters(f"no host is left without {', '.join(limit.without)}", hint=_choices(targets))
    return (hosts_of(names),)


def _within(targets: Targets, all_of_it: tuple[Hosts, ...], name: str) -> Hosts:
    """Return the hosts behind a name, as far as the work is for them anyway. Raises `BadParameters` if it is for none.

    Of many hosts only the first names are known here; a run that is limited to another one finds it, or nothing.
    """
    names = {each for part in all_of_it for each in part.names}
    whole = all(part.complete for part in all_of_it)
    group = targets.groups.get(name)
    if name in names:
        return hosts_of([name])
    if group is not None and (targets.known is None or [group.digest] == [part.digest for part in all_of_it]):
        return group  # as its agent says, all of it
    if group is not None and whole and group.complete and names & {*group.names}:
        return hosts_of(names & {*group.names})
    if group is None and not whole and is_one_host(name):
        return hosts_of([name])
    raise BadParameters(f"{name} is none of the hosts that it is for", hint=_choices(targets, all_of_it))


def _named(
    spec: IntentSpec, targets: Targets, name: str, default: Hosts | None, parameters: Mapping[str, JsonValue]
) -> Iterator[Hosts]:
    if name in parameters:
        values = parameters[name]
        texts = values if isinstance(values, list) else [values]
        if not texts or len(texts) > MOST_VALUES:
            raise BadParameters(f"{name} must name from 1 to {MOST_VALUES} hosts or groups", hint=_choices(targets))
        yield from (_resolved(spec, targets, name, text) for text in texts)
    elif default is None:
        raise BadParameters(f"{name} says which hosts {spec.intent} is for: it must be given", hint=_choices(targets))
    else:
        yield default


def _resolved(spec: IntentSpec, targets: Targets, name: str, text: JsonValue) -> Hosts:
    """Return the hosts behind one value. A host goes before a group of the same name, as it does for Ansible."""
    known = targets.known
    if isinstance(text, str) and (text == LOCALHOST or (known and text in known.names)):
        return hosts_of([text])
    if isinstance(text, str) and text in targets.groups:
        group = targets.groups[text]
        if locks(spec, name) and group.names != (text,):
            raise BadParameters(
                f"{name} takes the name of one host, which is locked; {text} is a group of {group.count}",
                hint=f"Ask for each host: {', '.join(group.names)}.",
            )
        return group
    if isinstance(text, str) and is_one_host(text) and (known is None or not known.complete):
        return hosts_of([text])  # the run is limited to a host of exactly this name, if there is one
    shown = repr(text[:60]) if isinstance(text, str) else "its value"
    raise BadParameters(f"{name}: {shown} is neither a host nor a group of the inventory", hint=_choices(targets))


def _choices(targets: Targets, among: tuple[Hosts, ...] = ()) -> str:
    """Say what may be written: hosts out of those `among` which it is, or of all that are known, and groups."""
    parts = among or ((targets.known,) if targets.known else ())
    hosts = [name for part in parts for name in part.names][:CHOICES]
    left = sum(part.count for part in parts) - len(hosts)
    more = f" or one of {left:,} others" if left else ""
    groups = f"; a group: {', '.join(list(targets.groups)[:CHOICES])}" if targets.groups else ""
    return f"Write the name of a host: {', '.join(hosts) or 'as the inventory has it'}{more}{groups}."
