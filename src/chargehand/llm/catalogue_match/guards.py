"""What makes a clause no plain command, although its words match one. Each guard asks, naming what it saw."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """A pattern over the lower-cased clause and what to say. `hard` ones hold whatever an intent's examples contain."""

    name: str
    pattern: re.Pattern[str]
    says: str
    hard: bool = False

    @property
    def binds_others(self) -> bool:
        """Whether it can change what the clauses beside it mean, although its own clause is no work at all."""
        return self.name in ("negation", "limit", "doubt", "condition", "order")

    @property
    def asks_about(self) -> bool:
        """Whether nothing is to be done: "how do I write a query"."""
        return self.name == "question"

    @property
    def proposes(self) -> bool:
        """Whether the work is wanted all the same, so that the question can say which: not what is to be left alone,
        nor what somebody else did."""
        return self.name not in ("negation", "report")


def _guard(name: str, says: str, *patterns: str, hard: bool = False) -> Guard:
    return Guard(name, re.compile(r"(?<![\w-])(?:" + "|".join(patterns) + r")(?![\w-])"), says, hard)


# What follows "armed" in "armed the alarm" and "rolled back": it tells what was done. "Failed jobs" tells nothing.
_AFTER_PARTICIPLE = r"back|up|down|off|on|out|the|a|an|my|our|it|them|all|every\w*|his|her|this|that|these"
_DAYS = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"

GUARDS = (
    _guard(
        "negation",
        "says what not to do",
        r"do\s?n['’]?t(?! forget to)",
        r"do not(?! forget to)",
        "never",
        r"not(?! forget)",
        r"no (?:longer|need|way|more)",
        r"(?:ca|wo|should|must|need|could|would|does|did|is|are)n['’]?t",
        "cannot",
        "without",
        "except(?:ing)?",
        "excluding",
        "avoid(?:ing)?",
        "refrain",
        "skip",
        "neither",
        "nor",
        "leave",
        "ignore",
        "forget (?:about|it)",
        "hold off",
        "hands off",
        "nothing else",
        hard=True,
    ),
    _guard(
        "limit",
        "limits or takes back something",
        "instead",
        "rather",
        "but",
        "only",
        hard=True,
    ),
    _guard(
        "doubt",
        "is not sure of itself",
        "maybe",
        "perhaps",
        "possibly",
        "probably",
        "i guess",
        "not sure",
        "i ?do ?n['’]?t ?know",
        "idk",
        "dunno",
        "no wait",
        "wait,? no",
        "actually no",
        "scratch that",
        "never ?mind",
        "on second thoughts?",
        hard=True,
    ),
    _guard(
        "condition",
        "depends on something",
        r"(?<!check )(?<!see )(?<!verify )(?<!test )(?<!know )(?<!out )(?<!confirm )if",
        "unless",
        "when(?:ever)?",
        "until",
        "till",
        "while(?! (?:you are|you['’]?re|ur) at it)",
        "as (?:soon|long) as",
        "in case",
        "provided",
        "assuming",
        "otherwise",
        "else",
        "depending",
        r"once(?! (?:that|it|this|they)(?:['’]?s| is| are| has| have)?(?: been)? \w+(?:ed|ne)\b)",
    ),
    _guard(
        "order",
        "tells an order that this mode does not follow",
        r"before(?!hand)",
        r"after(?! (?:that|this|which)\b)",
        "prior to",
        r"last(?! (?:week|month|year|night|quarter|hour|day)s?\b| \d)",
        "in reverse",
    ),
    _guard(
        "question",
        "asks about it rather than for it",
        r"^did (?:i|we|you|he|she|they|it|some\w+|any\w+)",
        r"how (?:do|does|did|can|could|would|should|to)",
        "why",
        "who",
        "what (?:happens|would|does|will|do)",
    ),
    _guard(
        "report",
        "reports what somebody said, did or might do",
        "said",
        "says",
        "told",
        "tells",
        "asked",
        "asks",
        "ask",
        "wants",
        "wanted",
        "thinks?",
        "thought",
        "suggest(?:s|ed)?",
        "recommend(?:s|ed)?",
        "advised",
        "might",
        "suppose[d]?",
        "wonder(?:ing)?",
        "consider(?:ing)?",
        r"(?:should|shall|could|can|may|must|do) (?:i|we|one|they|he|she)(?! (?:get|have|see)\b)",
        r"(?:we|they|he|she|somebody|someone) (?:should|could|must|may|might|would|will)",
        "would it",
        "what if",
        "thinking (?:about|of)",
        "(?:planning|plan|going) to",
        "used to",
        "hypothetically",
        "imagine",
        "pretend",
        rf"^(?:fyi |btw )?(?!need|feed|seed|embed|speed|proceed|shed)\w+ed (?:{_AFTER_PARTICIPLE})",
        r"(?:i|we|you|he|she|they|is|are|was|were|has|have|had|did|done)(?: \w+)? already",
        r"already (?:\w+ed|did|done|ran|run)",
        "yesterday",
        "ago",
        r"(?:was|were|has been|have been|had been|been|being|got) \w+ed",
        r"(?:i|we|they|he|she|you|somebody|someone)(?:['’]ve)? (?:have |has |had |just )*(?!need|want)\w+ed",
    ),
    _guard(
        "time",
        "names a time, and this mode plans for now only",
        "tomorrow",
        "tonight",
        "later",
        "every",
        "each",
        "daily",
        "nightly",
        "weekly",
        "monthly",
        "hourly",
        "at (?:midnight|noon|night)",
        r"at \d{1,2}(?::\d\d)? ?(?:am|pm|o['’]?clock)",
        r"at \d{1,2}:\d\d",
        r"in (?:\d+|a|an|one|two|few|half) ?\w* ?(?:minutes?|hours?|days?|weeks?|months?)",
        r"(?:next|this|on) (?:week|month|year|evening|afternoon|morning|weekend)",
        _DAYS,
    ),
    _guard("choice", "leaves a choice open", "or", "either", "whichever", "one of"),
)


REPORT = next(guard for guard in GUARDS if guard.name == "report")


def held_by(words: str, phrases: Set[str]) -> Guard | None:
    """Return the first guard a clause trips, unless the intent's own examples (`phrases`, lower case) say the same."""
    lower = words.lower()
    for guard in GUARDS:
        for match in guard.pattern.finditer(lower):
            if guard.hard or not any(match[0] in phrase for phrase in phrases):
                return guard
    return None
