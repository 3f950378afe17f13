"""A request read against the catalog: subtasks where it is sure, questions everywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from chargehand.catalog.catalog import exclusive_keys
from chargehand.llm.catalogue_match.clauses import Clause, cut
from chargehand.llm.catalogue_match.guards import REPORT, Guard, held_by
from chargehand.llm.catalogue_match.judging import LIGHT_ACTION, SAME_ACTION, Guess, Judge, Judgement
from chargehand.llm.catalogue_match.language import is_english
from chargehand.llm.catalogue_match.lexicon import POSSESSIVES, PRONOUNS, STATING, WISHING
from chargehand.llm.catalogue_match.parameters import extract
from chargehand.llm.catalogue_match.profiles import Profile, Schema, content_stems, properties, required
from chargehand.llm.catalogue_match.telling import begins_with_a_past, orders, tells
from chargehand.llm.catalogue_match.values import kind_of
from chargehand.llm.catalogue_match.words import Token, main_verb, tokens

NEAREST = 3  # alternatives in a question: more are not read
MOST_STEPS = 8  # as `Thresholds.max_subtasks`: more are not one request
MOST_DOUBTS = 3  # flags of the request on each of its steps
MOST_LINES = 20  # of questions and the like: nobody answers more at once
PROPOSED, CLEARLY = 0.30, 1.5  # a proposal: at least so sure, and so many times surer than of the next intent
ABOUT = 0.3  # confidence from which a clause that is held is about an intent at all
TELLING = 2  # words with content from which a reason may change what is to be done: not "it is slow"
COVERED = 0.5  # of the words with content, the share an intent must account for: the rest may change what is meant
LEAST = 2  # words with content, values included: "deploy" and "kuma" alone say half of what is to be done
CLOSE = 4.0  # an intent within this factor of the likeliest is named beside it
TURNS = ("before", "after")  # what turns the order of two clauses round, or not
LIKELY = 0.05  # confidence below which an intent is not worth asking about


@dataclass
class _Step:
    """A clause with what it is taken for. One that is not sure holds the plan: a question about it stands beside it."""

    clause: Clause
    guess: Guess
    parameters: dict[str, JsonValue]
    flags: list[JsonValue] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        return self.guess.profile


@dataclass
class _Reading:
    judge: Judge
    sure: float
    steps: list[_Step] = field(default_factory=list)
    ambiguities: list[str] = field(default_factory=list)
    guarded: list[tuple[str, str]] = field(default_factory=list)  # guards that held a clause, and the questions
    out_of_scope: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    bound: list[tuple[str, str]] = field(default_factory=list)  # another trade's clause, and the question it may pose
    about: tuple[Token, ...] = ()  # what the clause just before is about, for "it" and "them"
    clauses: int = 0
    has_order: bool = False  # a clause that tells something is then a reason
    considered: list[Judgement] = field(default_factory=list)  # of each clause that may ask for something
    doubts: list[JsonValue] = field(default_factory=list)  # flags for every step
    lost: str = ""  # the clause just before, when it could not be planned: what it is about is unknown

    def value(self) -> dict[str, JsonValue]:
        """The answer in the shape every tier gives."""
        return {
            "subtasks": [self._subtask(place) for place in range(len(self.steps))],
            "ambiguities": _shown(self.ambiguities),
            "out_of_scope": _shown(self.out_of_scope),
            "assumptions": _shown(self.assumptions),
        }

    def _doubts(self) -> list[JsonValue]:
        """What makes every step worth a second look: a part of the same request that is left out, or passed over."""
        left = [f"“{words}” is left out: nothing here offers it" for words in self.out_of_scope]
        return [*self.doubts, *left][:MOST_DOUBTS]

    def _subtask(self, place: int) -> dict[str, JsonValue]:
        step = self.steps[place]
        words = " ".join(token.raw for token in step.clause.tokens) if step.clause.borrowed else step.clause.words
        return {
            "order": place + 1,
            "name": words[:1].upper() + words[1:200],
            "intent": step.profile.spec.intent,
            "confidence": round(step.guess.confidence, 3),
            "parameters": step.parameters,
            "depends_on": [at + 1 for at in range(place) if _depends(step, self.steps[at], adjacent=at == place - 1)],
            "words": step.clause.words,
            "flags": [*step.flags, *self._doubts()],
        }


def _shown(lines: Sequence[str]) -> list[JsonValue]:
    different = list(dict.fromkeys(lines))
    more = len(different) - MOST_LINES
    return [*different[:MOST_LINES], *([f"... and {more} more like these."] if more > 0 else [])]


def read(text: str, judge: Judge, *, sure: float) -> dict[str, JsonValue]:
    """Return what the text asks for. Below the confidence `sure` nothing is planned: it becomes a question."""
    return _read(text, judge, sure).value()


def held(text: str, judge: Judge, *, sure: float) -> tuple[dict[str, JsonValue], Sequence[tuple[str, str]]]:
    """Return what the text asks for, and the guards that hold clauses of it: their names and questions."""
    found = _read(text, judge, sure)
    return found.value(), found.guarded


def considered(text: str, judge: Judge) -> Sequence[Judgement]:
    """Return the judgement of each clause of a text that may ask for something: what a ranking is fitted to."""
    return _read(text, judge, sure=1.0).considered


def _read(text: str, judge: Judge, sure: float) -> _Reading:
    found = tokens(text)
    reading = _Reading(judge, sure)
    if not is_english(found, judge.known):
        reading.ambiguities.append(
            f"“{_short(text)}”: without an LLM only English is understood. Please say it in English."
        )
        return reading
    clauses = cut(text, found, lambda clause: judge.judge(with_topic(clause, mentioned(found, clause, judge))).strength)
    if clauses is None:
        reading.ambiguities.append(
            "This is too long to be read without an LLM. Say in a few short sentences what to do."
        )
        return reading
    reading.clauses = len(clauses)
    reading.has_order = any(orders(clause.tokens) for clause in clauses)
    for clause in clauses:
        _read_clause(reading, clause)
    _settle_bound(reading)
    reading.steps = _in_time(reading.steps)
    if len(reading.steps) > MOST_STEPS:
        reading.ambiguities.insert(0, f"These are {len(reading.steps)} tasks: ask for at most {MOST_STEPS} at once.")
        del reading.steps[MOST_STEPS:]
    if not (reading.steps or reading.ambiguities or reading.out_of_scope):
        reading.ambiguities.append(f"“{_short(text)}”: which action on what?")
    return reading


def _in_time(steps: Sequence[_Step]) -> list[_Step]:
    """Put what is to be done "before" something before it, and what is to follow "after" something after it."""
    ordered: list[_Step] = []
    for step in steps:
        behind = bool(ordered) and _begins(ordered[-1], "before") and not _begins(step, *TURNS)
        ordered.insert(len(ordered) - (behind or (bool(ordered) and _begins(step, "after"))), step)
    return ordered


def _begins(step: _Step, *words: str) -> bool:
    return step.clause.tokens[0].lower in words


def _settle_bound(reading: _Reading) -> None:
    """ "If it rains" beside an order is a question about the order; alone it is only another trade's."""
    for words, question in reading.bound:
        if reading.steps or reading.ambiguities:
            reading.ambiguities.append(question)
        else:
            reading.out_of_scope.append(words)


def _read_clause(reading: _Reading, clause: Clause) -> None:
    before = reading.steps[-1] if reading.steps else None
    service = before.profile.service if before else frozenset[str]()
    meant = with_topic(clause.tokens, _topic(reading, before))
    judgement = reading.judge.judge(meant, service)
    guard = _guard(clause, judgement, followed=reading.clauses > 1)
    reading.about = _object(meant) or reading.about
    if reading.has_order and tells(clause.tokens) and not (judgement.verbatim or _binds(guard, judgement)):
        _pass_over(reading, clause, judgement)
        return
    if judgement.outcome != "background" and not _is_statement(clause, judgement):
        reading.considered.append(judgement)
    if guard is None and _continues(reading, clause, judgement):
        return
    question = f"“{_short(clause.words)}” {guard.says}. Please say only what should be done now." if guard else ""
    if guard and (judgement.outcome == "out_of_scope" or (judgement.outcome == "doubtful" and guard.asks_about)):
        reading.bound.append((_short(clause.words), question))
    elif guard:
        reading.ambiguities.append(question)
        reading.guarded.append((guard.name, question))
        if guard.proposes and judgement.outcome == "intent" and _is_clear(judgement):
            reading.steps.append(_Step(clause, judgement.guesses[0], dict(judgement.guesses[0].found.values)))
    elif judgement.outcome == "out_of_scope" and not _is_statement(clause, judgement):
        reading.out_of_scope.append(_short(clause.words))
    elif judgement.outcome in ("out_of_scope", "background") or _is_statement(clause, judgement):
        reading.assumptions.append(f"Nothing is done for “{_short(clause.words)}”.")
        return
    elif judgement.outcome == "vague":
        reading.ambiguities.append(f"“{_short(clause.words)}”: which action on what?")
    elif judgement.outcome == "doubtful":
        _ask_with_nearest(reading, clause, judgement)
    else:
        _read_intent(reading, clause, judgement, before)
    last = reading.steps[-1] if reading.steps else None
    sure = last is not None and last is not before and _is_sure(judgement, reading.sure)
    reading.lost = "" if sure else clause.words


def _continues(reading: _Reading, clause: Clause, judgement: Judgement) -> bool:
    """Whether a part without a verb only gives values to the step just before: "..., username k.meyer"."""
    if not reading.steps or reading.lost or main_verb(clause.tokens) is not None or judgement.outcome == "background":
        return False
    step = reading.steps[-1]
    found = extract(step.profile, clause.tokens, reading.judge.told)
    content = [at for at, token in enumerate(clause.tokens) if not token.is_filler and token.kind != "mark"]
    rest = [at for at in content if at not in found.used and not set(clause.tokens[at].stems) & step.profile.stems]
    new = {name: value for name, value in found.values.items() if name not in step.parameters}
    if not new or rest:
        return False
    step.parameters.update(new)
    return True


def _read_intent(reading: _Reading, clause: Clause, judgement: Judgement, before: _Step | None) -> None:
    best = judgement.guesses[0]
    if best.found.refused and best.confidence >= LIKELY:
        reading.ambiguities.append(
            f"“{_short(clause.words)}”: {_short('; '.join(best.found.refused))}. What should it be?"
        )
    elif reading.lost and best.profile.service and not best.profile.service & set(content_stems(clause.tokens)):
        reading.ambiguities.append(
            f"“{_short(clause.words)}” follows “{_short(reading.lost)}”, which is not planned. "
            f"Did you mean: {best.profile.title} ({best.profile.spec.service})?"
        )
    elif best.profile.too_few_phrases:
        reading.ambiguities.append(_question(clause, judgement))
    elif before is not None and _repeats(clause, best, before):
        reading.ambiguities.append(f"“{_short(clause.words)}”: which action on what?")
    elif not _is_sure(judgement, reading.sure):
        _ask_with_nearest(reading, clause, judgement)
    else:
        step = _Step(clause, best, dict(best.found.values))
        _share_hosts(reading, step)
        _note(reading, step, judgement, before)
        if best.confidence < reading.judge.certain or _has_rival(judgement):
            step.flags.append(_doubt(judgement))
        step.flags += _gaps(best, judgement, reading.judge.not_given(best))
        reading.steps.append(step)


def _ask_with_nearest(reading: _Reading, clause: Clause, judgement: Judgement) -> None:
    """Ask which of the nearest intents is meant; where one is far likelier, it is put to the person as a proposal."""
    reading.ambiguities.append(_question(clause, judgement))
    if _is_clear(judgement):
        proposed = _Step(clause, judgement.guesses[0], dict(judgement.guesses[0].found.values))
        _share_hosts(reading, proposed)
        reading.steps.append(proposed)


def _points_back(clause: Clause) -> bool:
    return any(token.lower in PRONOUNS for token in clause.tokens)


def _repeats(clause: Clause, best: Guess, before: _Step) -> bool:
    """Whether it would only be the step before once more: "deploy it, make it faster"."""
    points = _points_back(clause)
    new = best.found.values.items() - before.parameters.items() if points else ()
    return points and best.profile is before.profile and not new and not best.verbatim


def _is_sure(judgement: Judgement, sure: float) -> bool:
    """Whether a clause can be planned: likely enough, no other intent near, few words unused, something to do."""
    best, *others = judgement.guesses
    alone = all(best.confidence >= CLEARLY * other.confidence for other in others)
    said = best.coverage >= COVERED and best.agreement > LIGHT_ACTION and judgement.words >= LEAST
    return best.verbatim or (best.confidence >= sure and alone and said)


def _is_clear(judgement: Judgement) -> bool:
    """Whether one intent is far likelier than the others, so that it can be put to a person as a proposal."""
    best, *others = judgement.guesses
    return best.confidence >= PROPOSED and all(best.confidence >= CLEARLY * other.confidence for other in others)


def _pass_over(reading: _Reading, clause: Clause, judgement: Judgement) -> None:
    """Leave a reason alone. Every step is flagged with one that says more than a word, or has a time in it."""
    reading.assumptions.append(f"Nothing is done for “{_short(clause.words)}”.")
    guard = held_by(clause.words, frozenset())
    content = sum(token.kind == "word" and not token.is_filler for token in clause.tokens)
    if content >= TELLING or (guard and guard.name in ("time", "order")):
        reading.doubts.append(f"“{_short(clause.words)}” is taken to change nothing about it")


def _binds(guard: Guard | None, judgement: Judgement) -> bool:
    """Whether what a reason says holds for the orders beside it: "we do not touch the wiki", "unless it is up"."""
    if guard is None or guard.name in ("time", "order", "question"):
        return False
    about = bool(judgement.guesses) and judgement.guesses[0].confidence >= ABOUT
    return about or guard.name in ("condition", "choice", "doubt")


def with_topic(clause: tuple[Token, ...], topic: Sequence[Token]) -> tuple[Token, ...]:
    """Put a topic in the place of the first pronoun: "its config", "restart it"."""
    place = next((at for at in range(len(clause)) if _stands_for(clause, at)), None)
    return clause if place is None or not topic else (*clause[:place], *topic, *clause[place + 1 :])


def _stands_for(clause: Sequence[Token], place: int) -> bool:
    """Whether a word is a pronoun; "that" before other words only joins them: "check that the page is up"."""
    lower = clause[place].lower
    return lower in PRONOUNS and (lower != "that" or place == len(clause) - 1)


def mentioned(found: Sequence[Token], clause: Sequence[Token], judge: Judge) -> Sequence[Token]:
    """What a pronoun could stand for before it is known what the clauses mean: the service or host named last."""
    before = [token for token in found if token.end <= clause[0].start]
    services = frozenset[str]().union(*(each.service for each in judge.profiles.values()))
    named = [token for token in before if set(token.stems) & services]
    hosts = [token for token in before if token.kind == "host"]
    verbs = [place for place, token in enumerate(before) if token.actions]
    return named[-2:] or hosts[-1:] or (_object(before[verbs[-1] :]) if verbs and not _owns(clause) else ())


def _topic(reading: _Reading, step: _Step | None) -> Sequence[Token]:
    """The service the step before is about, or the machine where it has none, or else what its words name."""
    if step and step.profile.spec.service:
        return tokens(step.profile.spec.service.replace("_", " ").replace("-", " "))
    schemas = properties(step.profile.spec) if step else {}
    hosts = [str(step.parameters[name]) for name in step.parameters if _is_host(name, schemas)] if step else []
    return tokens(hosts[0]) if hosts else reading.about


def _is_host(name: str, schemas: Mapping[str, Schema]) -> bool:
    return kind_of(name, schemas[name]) == "host"


def _owns(clause: Sequence[Token]) -> bool:
    """Whether its pronoun only says whose something is: "its record" is not what the step before was about."""
    return any(token.lower in POSSESSIVES for token in clause)


def _object(clause: Sequence[Token]) -> tuple[Token, ...]:
    """The thing a clause does something to, or tells something of: what stands after its verb, up to a preposition."""
    verb = main_verb(clause)
    said = [
        token for token in clause[(verb + 1 if verb is not None else 0) :] if token.kind not in ("mark", "particle")
    ]
    start = next((at for at, token in enumerate(said) if not token.is_filler), len(said))
    end = next((at for at in range(start, len(said)) if said[at].is_filler), len(said))
    return tuple(said[start:end])


def _guard(clause: Clause, judgement: Judgement, *, followed: bool) -> Guard | None:
    """What holds a clause; an order that begins it can be `followed` where it is about another clause."""
    if judgement.verbatim:
        return None
    if judgement.outcome == "background":
        doubt = held_by(clause.words, frozenset())
        return doubt if doubt is not None and doubt.name == "doubt" else None
    best = judgement.guesses[0].profile if judgement.guesses else None
    phrases = frozenset(example.lower() for example in best.spec.examples) if best else frozenset[str]()
    guard = REPORT if begins_with_a_past(clause.tokens) else held_by(clause.words, phrases)
    if guard is not None and guard.name == "order" and followed:
        first, _, rest = clause.words.partition(" ")
        guard = held_by(rest if first.lower() in TURNS else clause.words, phrases)
    if guard is None or judgement.outcome != "out_of_scope" or guard.binds_others:
        return guard
    # Another trade's words change no plan, for whenever they are; a time or a doubt that stands alone does.
    return guard if guard.name == "doubt" or not _left(clause, guard) else None


def _left(clause: Clause, guard: Guard) -> list[Token]:
    """What a clause is about besides the words that tripped the guard."""
    offset = clause.tokens[0].start
    spans = [(match.start() + offset, match.end() + offset) for match in guard.pattern.finditer(clause.words.lower())]
    return [
        token
        for token in clause.tokens
        if not token.is_filler and not any(start <= token.start < end for start, end in spans)
    ]


def _is_statement(clause: Clause, judgement: Judgement) -> bool:
    """Whether it tells something of no thing in the catalog, instead of asking for it: "our users complain"."""
    lowers = {token.lower for token in clause.tokens}
    best = judgement.guesses[0] if judgement.guesses else None
    if tells(clause.tokens) and not lowers & WISHING and judgement.outcome in ("out_of_scope", "doubtful"):
        return True
    if lowers & WISHING or any(token.is_value or token.actions for token in clause.tokens):
        return False
    about = best is not None and (
        best.confidence > 0.5 or bool(best.profile.service & set(content_stems(clause.tokens)))
    )
    return clause.tokens[0].lower.split("'")[0] in STATING and not about


def _question(clause: Clause, judgement: Judgement) -> str:
    unknown = ", ".join(f"“{_short(word)}”" for word in judgement.unknown[:3])
    why = f" ({unknown} means nothing to me here)" if unknown else ""
    likely = [guess.profile.title for guess in judgement.guesses[:NEAREST] if guess.confidence > LIKELY]
    nearest = likely or [guess.profile.title for guess in judgement.guesses[:2]]
    return f"“{_short(clause.words)}” is unclear to me{why}. Did you mean: {', or '.join(nearest)}?"


def _gaps(best: Guess, judgement: Judgement, missing: Sequence[str]) -> list[JsonValue]:
    """What a step takes for granted, however sure its intent is: of few steps that are right, of many that are not."""
    told = (
        ([best.profile.title] if best.agreement < SAME_ACTION else [], "its verb is not quite one for “{}”"),
        (missing, "no {} is named"),
        (best.unused, "{} is left out of account"),
        (best.supposed, "{} is taken for a name, because one is needed"),
        ([wrong for wrong, _ in judgement.respelt], "{} is taken for a slip of the keyboard"),
    )
    return [says.format(", ".join(map(_short, words[:3]))) for words, says in told if words]


def _has_rival(judgement: Judgement) -> bool:
    """Whether another intent is nearly as likely."""
    best, *others = judgement.guesses
    return any(CLOSE * other.confidence > best.confidence for other in others)


def _doubt(judgement: Judgement) -> str:
    """Why a step that is planned should be looked at twice."""
    best, *others = judgement.guesses
    unknown = ", ".join(f"“{_short(word)}”" for word in judgement.unknown[:3])
    why = f"{unknown} means nothing to me here" if unknown else "its words are not quite those of the examples"
    near = f"; it may mean: {others[0].profile.title}" if _has_rival(judgement) else ""
    return f"taken for “{best.profile.title}”: {why}{near}"


def _short(words: str) -> str:
    return words if len(words) <= 120 else words[:117] + "..."


def _share_hosts(reading: _Reading, step: _Step) -> None:
    """A machine named once counts for its neighbour: "check disk and memory on web-1", "... and look at it there"."""
    before = reading.steps[-1] if reading.steps else None
    if before is None:
        return
    if _points_back(step.clause):
        _lend(reading, before, step)
    elif step.clause.borrowed:
        _lend(reading, step, before)


def _lend(reading: _Reading, giver: _Step, taker: _Step) -> None:
    for name, schema in properties(taker.profile.spec).items():
        value = giver.parameters.get(name)
        if _is_shared(name, schema, taker) and name not in taker.parameters and value is not None:
            taker.parameters[name] = value
            reading.assumptions.append(f"“{_short(taker.clause.words)}” is taken to be about {value} too.")


def _is_shared(name: str, schema: Schema, taker: _Step) -> bool:
    """A machine is; and what is needed, has the same name, and stands behind a pronoun: "... and restart it"."""
    return kind_of(name, schema) == "host" or (_points_back(taker.clause) and name in required(taker.profile.spec))


def _note(reading: _Reading, step: _Step, judgement: Judgement, before: _Step | None) -> None:
    """Write down what was taken for granted."""
    for wrong, right in judgement.respelt:
        reading.assumptions.append(f"“{_short(wrong)}” is read as “{right}”.")
    service = step.profile.service
    if (
        service
        and before
        and service == before.profile.service
        and not service & set(content_stems(step.clause.tokens))
    ):
        name = (step.profile.spec.service or "").replace("_", " ")
        reading.assumptions.append(f"“{_short(step.clause.words)}” is taken to be about {name}, as the step before.")


def _depends(step: _Step, earlier: _Step, *, adjacent: bool) -> bool:
    """Whether a step waits for an earlier one: said so, about the same thing, or touching the same target."""
    if adjacent and (step.clause.then or _points_back(step.clause)):
        return True
    if earlier.profile.spec.intent in step.profile.spec.after:
        return True
    if step.profile.service and step.profile.service == earlier.profile.service:
        return True
    return bool(_keys(step) & _keys(earlier))


def _keys(step: _Step) -> set[str]:
    parameters: Mapping[str, JsonValue] = {**_defaults(step.profile), **step.parameters}
    return set(exclusive_keys(step.profile.spec, parameters))


def _defaults(profile: Profile) -> dict[str, JsonValue]:
    return {name: schema["default"] for name, schema in properties(profile.spec).items() if "default" in schema}
