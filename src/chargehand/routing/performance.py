"""What outcomes say about an agent: its success rate with an interval, how long it takes, what it uses, how hard it is.

Durations and resources are kept per intent and per work type. Those of the intent count once there are enough of them.

A rate from few runs is a guess: 5 of 7 is not 71 %. So every estimate carries its interval and whether it is `known`.
Agents change. So the counts a choice is made with are discounted: each new run makes all older ones weigh less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import exp, sqrt
from typing import NamedTuple

from chargehand.domain.messages import Difficulty
from chargehand.domain.routing import NO_FIGURES, AgentFacts, Figures

MINIMUM_RUNS = 10  # before a success rate counts, and before an intent's own figures take the place of its work type's
UNKNOWN_RATE = 0.5  # until then: neither trusted nor distrusted
Z95 = 1.96  # standard deviations of a 95 % interval
KEEP = 0.7  # how much of an old estimate stays when a new measurement comes in

STEP = 0.2  # of a moving quantile: from half the true value it is there after about seven runs

# Searched for in simulated pools (docs/decisions/0016); `./run bench routing` shows what they come to.
KEEP_LATELY = 0.97  # how much a run weighs after the next one of its agent: half after 23
USUAL_RUNS = 8.0  # how many runs "it is like other agents" counts for
OVERALL_RUNS = 6.0  # how many runs "it does this like all its work" counts for
OPTIMISM = 0.25  # how many standard deviations are added for what is not known


@dataclass(frozen=True, slots=True)
class Counts:
    """What one agent has done of one work type. Durations are of the runs that succeeded or failed, in milliseconds."""

    successes: int = 0
    failures: int = 0
    total_duration_ms: int = 0

    @property
    def runs(self) -> int:
        """How many runs ended with an outcome."""
        return self.successes + self.failures

    @property
    def mean_duration_ms(self) -> float | None:
        """The mean duration of a run; None before the first."""
        return self.total_duration_ms / self.runs if self.runs else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A success rate as observed (`UNKNOWN_RATE` before the first run), and the 95 % interval the true one lies in."""

    success_rate: float
    low: float
    high: float
    runs: int
    known: bool

    @property
    def usable_rate(self) -> float:
        """The observed rate once it is known, `UNKNOWN_RATE` until then."""
        return self.success_rate if self.known else UNKNOWN_RATE


def estimate(counts: Counts, *, minimum: int = MINIMUM_RUNS) -> Estimate:
    """Estimate the success rate. Wilson's interval, because it stays inside 0..1 and is not empty at 0 of 3."""
    runs = counts.runs
    if runs == 0:
        return Estimate(UNKNOWN_RATE, 0.0, 1.0, 0, known=minimum <= 0)
    rate = counts.successes / runs
    spread = Z95 * sqrt(rate * (1 - rate) / runs + Z95**2 / (4 * runs**2))
    middle = rate + Z95**2 / (2 * runs)
    scale = 1 + Z95**2 / runs
    # At 0 and at `runs` successes rounding could put the end of the interval just beside the rate it must contain.
    low, high = min(rate, (middle - spread) / scale), max(rate, (middle + spread) / scale)
    return Estimate(rate, max(0.0, low), min(1.0, high), runs, known=runs >= minimum)


class Lately(NamedTuple):
    """Discounted counts: `runs` tends to 1 / (1 - `KEEP_LATELY`)."""

    successes: float = 0.0
    runs: float = 0.0

    def after(self, ok: bool) -> Lately:
        """Return the counts after one more run."""
        return Lately(self.successes * KEEP_LATELY + ok, self.runs * KEEP_LATELY + 1)


NOTHING_YET = Lately()


def expected_success(
    successes: float, runs: float, of_all_work: Lately | tuple[float, float], usual: float, declared: float = 0.0
) -> tuple[float, float]:
    """Return how likely a run succeeds, and the standard deviation of that.

    `successes` and `runs` are the discounted counts of this work type. What is not known of it is taken from all the
    agent's work, and what is not known of the agent from all agents (`usual`). `declared` is how many successes its
    own word counts for.
    """
    like_all_its_work = (of_all_work[0] + USUAL_RUNS * usual) / (of_all_work[1] + USUAL_RUNS)
    weight = runs + OVERALL_RUNS + declared
    mean = (successes + OVERALL_RUNS * like_all_its_work + declared) / weight
    return mean, sqrt(mean * (1 - mean) / (weight + 1))


@dataclass(frozen=True, slots=True)
class Run:
    """One run that counts, as its agent reported it.

    `rehearsed`: a dry run, which shows neither time nor need. `repeated`: the task had been tried before.
    """

    ok: bool
    duration_ms: int
    resources_used: Mapping[str, float] = field(default_factory=dict)
    difficulty: Difficulty | None = None
    rehearsed: bool = False
    repeated: bool = False

    @property
    def shows_need(self) -> bool:
        """Whether it says how long the work takes and what it uses: one that was cut off or lost does not."""
        return self.ok and not self.rehearsed


@dataclass(frozen=True, slots=True)
class Performance:
    """What is kept of one agent's runs of one intent, or of one work type. Times in milliseconds.

    Quantiles and resources are of runs that succeeded. `difficulty` goes from 0 to 1 (see `HARD`).
    """

    counts: Counts = Counts()
    lately: Lately = NOTHING_YET
    total_duration_ms2: float = 0.0
    p50_ms: float | None = None
    p90_ms: float | None = None
    resources_used: Mapping[str, float] = field(default_factory=dict)
    difficulty: float | None = None

    @property
    def assessment(self) -> Difficulty | None:
        """How hard the work is for the agent, in a word; None before the first run."""
        return None if self.difficulty is None else assessed(self.difficulty)

    @property
    def deviation_ms(self) -> float | None:
        """The standard deviation of durations; None before the second run."""
        runs, mean = self.counts.runs, self.counts.mean_duration_ms
        if runs < 2 or mean is None:
            return None
        return sqrt(max(0.0, (self.total_duration_ms2 - runs * mean**2) / (runs - 1)))

    def judged(self, run: Run) -> Run:
        """Return a run with how hard it was: what its agent says, else what the attempts and the time tell."""
        long = (
            self.p50_ms is not None and self.counts.successes >= MINIMUM_RUNS and run.duration_ms > LONG * self.p50_ms
        )
        told: Difficulty = "failed" if not run.ok else "tricky" if run.repeated or long else "straightforward"
        return replace(run, difficulty=run.difficulty or told)

    def after(self, run: Run) -> Performance:
        """Return what is kept after one more run."""
        counts = Counts(
            self.counts.successes + run.ok,
            self.counts.failures + (not run.ok),
            self.counts.total_duration_ms + run.duration_ms,
        )
        return Performance(
            counts,
            self.lately.after(run.ok),
            self.total_duration_ms2 + float(run.duration_ms) ** 2,
            moved(self.p50_ms, run.duration_ms, 0.5) if run.shows_need else self.p50_ms,
            moved(self.p90_ms, run.duration_ms, 0.9) if run.shows_need else self.p90_ms,
            smooth_all(self.resources_used, run.resources_used) if run.shows_need else self.resources_used,
            smooth(self.difficulty, HARD[run.difficulty]) if run.difficulty else self.difficulty,
        )


HARD: Mapping[Difficulty, float] = {"straightforward": 0.0, "tricky": 0.5, "failed": 1.0}
"""How hard a run was, as a number that can be smoothed; what comes of it is the word it is nearest to."""


LONG = 3.0  # times the usual: of lognormal durations (variation 0.8), fewer than one straightforward run in ten


def assessed(difficulty: float) -> Difficulty:
    """Return the word for a smoothed difficulty."""
    return min(HARD, key=lambda word: abs(HARD[word] - difficulty))


def is_tricky(difficulty: float, runs: int, minimum: int) -> bool:
    """Whether so many runs show that the work is more than straightforward."""
    return runs >= minimum and assessed(difficulty) != "straightforward"


def figures_of(agent: AgentFacts, minimum: int) -> Figures:
    """Return what time is predicted and allowed by on an agent: its runs of the intent once they are enough, else those
    of the work type. A deviation of fewer runs than that says nothing."""
    own = agent.of_intent or NO_FIGURES
    found = own if own.runs and own.runs >= minimum else agent.of_work_type
    return found if found.runs >= minimum else found._replace(deviation_ms=None)


DECLARED_RUNS = 3.0  # how many runs the declared duration counts for: after a dozen, what was measured leads


def expected_seconds(declared: float, runs: Iterable[tuple[int, float]]) -> float:
    """Return how long work takes, from what is declared of it and each agent's (runs, median in milliseconds)."""
    known = list(runs)
    weight = DECLARED_RUNS + sum(n for n, _ in known)
    return (DECLARED_RUNS * declared + sum(n * median / 1000 for n, median in known)) / weight


HEADROOM = 3.0  # times what nine in ten of its runs take: of lognormal durations, one in a thousand takes longer
FAR = 4.0  # deviations above the mean: whatever the distribution, at most one run in seventeen takes longer (Cantelli)


def allowed_seconds(declared: float, seen: Figures, most: float) -> float:
    """Return how long a run may take: what is declared, or more where the agent's runs come near that; never above
    `most`. Never less than is declared: what has been quick so far may be long for once.

    The deviation tells of rare long runs, which nine in ten do not.
    """
    usual = HEADROOM * (seen.p90_ms or 0.0)
    rare = (seen.mean_ms or 0.0) + FAR * seen.deviation_ms if seen.deviation_ms else 0.0
    return min(most, max(declared, usual / 1000, rare / 1000))


def moved(quantile: float | None, measured: float, part: float) -> float:
    """Move an estimate of a quantile by one measurement: up by `part` of a step where it was too low, else down.

    It needs no history, forgets slowly (a step is `STEP` of the estimate), and settles where `part` of the
    measurements are below it.
    """
    if quantile is None or quantile <= 0:
        return float(measured)
    return quantile * exp(STEP * (part if measured > quantile else part - 1))


def smooth(old: float | None, new: float) -> float:
    """Move an estimate towards a measurement; the first measurement is the estimate."""
    return new if old is None else KEEP * old + (1 - KEEP) * new


def smooth_all(old: Mapping[str, float], measured: Mapping[str, float]) -> dict[str, float]:
    """Smooth named estimates (resources, durations). What was not measured this time stays as it was."""
    return {**old, **{name: smooth(old.get(name), value) for name, value in measured.items()}}
