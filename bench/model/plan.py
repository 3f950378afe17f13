"""What a seed stands for: the jobs people ask for, the agents there are, and everything that goes wrong. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from chargehand.broker.weather import Fate

SERVERS = ("server-1", "server-2")
POINTS = (
    *("begin", "before the commit", "after the commit", "before the publish", "after the publish"),
    *("before the ack", "after the ack", "deliver", "statement"),
)
"""Where a crash may be aimed at; the others happen wherever their time finds the process."""


@dataclass(frozen=True, slots=True)
class Work:
    """One intent of the simulated catalog."""

    intent: str
    risk: str
    retry_safe: bool
    keys: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()  # the parameters that others give, where they are in the request
    returns: str = ""


WORKS = (
    Work("look_around", "read", retry_safe=True, returns="found"),
    Work("deploy_page", "change", retry_safe=True, keys=("host:a",), takes=("found",), returns="url"),
    Work("restart_db", "change", retry_safe=False, keys=("host:a",), takes=("found", "url")),
    Work("send_mail", "change", retry_safe=False, takes=("found", "url")),
)


@dataclass(frozen=True, slots=True)
class Job:
    """What one person asks for. Times in seconds of the simulation; `twice`: it is submitted from two windows."""

    number: int
    at: float
    works: tuple[str, ...]
    mode: str
    twice: bool
    verdict: str  # what is done about a plan: approve, reject, reword
    review: str  # what is done about unknown outcomes: leave, rerun, done
    cancel_after: float | None
    pause_after: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong at a time, for so many seconds, with one process or with all (`who` is empty)."""

    kind: str  # crash | cut | no_database | database_restart | broker_restart | wipe
    at: float
    seconds: float = 0.0
    who: str = ""
    point: str = ""
    nth: int = 1

    def __str__(self) -> str:
        aimed = f" at the {self.nth}. {self.point!r}" if self.point else ""
        return f"{self.kind} {self.who or 'all'} at {self.at:.2f} s{aimed} for {self.seconds:.2f} s"


@dataclass(frozen=True, slots=True)
class Sky:
    """The chances of what befalls single messages and notifications during the storm."""

    duplicate: float = 0.0
    late: float = 0.0
    unconfirmed: float = 0.0
    notice_lost: float = 0.0
    slow: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that is drawn before the start; the order of steps is drawn as they come."""

    seed: int
    servers: tuple[str, ...]
    agents: dict[str, int]  # name -> slots
    rates: dict[str, float]  # process -> how fast its clock runs
    jobs: tuple[Job, ...]
    faults: tuple[Fault, ...]
    sky: Sky
    storm: float

    @property
    def fair(self) -> bool:
        """Whether nothing at all goes wrong, so that nothing may be lost or asked of a person."""
        return not self.faults and self.sky == Sky()


def draw(seed: int) -> Schedule:
    """Return the schedule of a seed."""
    random = Random(f"schedule {seed}")
    servers = SERVERS[: random.choice((1, 2))]
    agents = {f"agent-{n}": random.choice((1, 2)) for n in range(1, random.choice((2, 3, 3)))}
    storm = random.uniform(6.0, 24.0)
    fair = random.random() < 0.05
    return Schedule(
        seed=seed,
        servers=servers,
        agents=agents,
        rates={name: random.uniform(0.98, 1.02) for name in (*servers, *agents)},
        jobs=tuple(_job(random, n, storm) for n in range(1, random.choice((2, 3, 3)))),
        faults=() if fair else _faults(random, (*servers, *agents), tuple(agents), storm),
        sky=Sky() if fair else _sky(random),
        storm=storm,
    )


def _job(random: Random, number: int, storm: float) -> Job:
    works = tuple(random.choice(WORKS).intent for _ in range(random.choice((1, 1, 2, 3))))
    return Job(
        number=number,
        at=random.uniform(0.5, storm * 0.6),
        works=works,
        mode=random.choice(("sequential", "parallel")),
        twice=random.random() < 0.2,
        verdict=random.choices(("approve", "reject", "reword"), (18, 1, 1))[0],
        review=random.choice(("leave", "rerun", "done")),
        cancel_after=random.uniform(0.0, 20.0) if random.random() < 0.1 else None,
        pause_after=random.uniform(0.0, 15.0) if random.random() < 0.1 else None,
    )


def _faults(random: Random, everybody: tuple[str, ...], agents: tuple[str, ...], storm: float) -> tuple[Fault, ...]:
    return tuple(_fault(random, everybody, storm) for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4))))


def _fault(random: Random, everybody: tuple[str, ...], storm: float) -> Fault:
    kinds = ("crash", "cut", "no_database", "database_restart", "broker_restart", "wipe")
    kind = random.choices(kinds, (10, 5, 2, 1, 1, 1))[0]
    at, who = random.uniform(0.0, storm), random.choice(everybody)
    if kind == "crash":
        point = random.choice(POINTS) if random.random() < 0.6 else ""
        return Fault(kind, at, random.uniform(0.1, 15.0), who, point, random.choice((1, 1, 2, 3, 5, 9)))
    if kind == "cut":
        return Fault(kind, at, random.choice((random.uniform(0.5, 8.0), random.uniform(8.0, 40.0))), who)
    if kind == "no_database":
        return Fault(kind, at, random.uniform(0.5, 8.0), who)
    return Fault(kind, at, random.uniform(0.1, 6.0))


def _sky(random: Random) -> Sky:
    def perhaps(most: float) -> float:
        return random.uniform(0.0, most) if random.random() < 0.5 else 0.0

    return Sky(perhaps(0.3), perhaps(0.5), perhaps(0.15), perhaps(1.0), perhaps(0.3))


class Weather:
    """The broker's weather: as the sky says until the storm is over. What it confirms it keeps."""

    def __init__(self, random: Random, sky: Sky) -> None:
        self.sky = sky
        self._random = random

    def fate(self, queue: str) -> Fate:
        sky, draw = self.sky, self._random.random
        doubled, late, unsure, how_late, arrived = draw(), draw(), draw(), draw(), draw()
        confirmed = unsure >= sky.unconfirmed
        return Fate(
            copies=0 if not confirmed and arrived < 0.5 else 2 if doubled < sky.duplicate else 1,
            delay=2.0 * how_late if late < sky.late else 0.0,
            confirmed=confirmed,
        )
