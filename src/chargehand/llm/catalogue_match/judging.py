"""One clause against the catalog: which intents it could mean, how sure that is, and what it is otherwise.

Each intent that the words or their meaning make likely is looked at closely: what it accounts for, how far the verb
agrees, which values it finds; `ranking.py` makes a probability of that. The classifier alone is sure of "deploy
grafana" when only one thing can be deployed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

from chargehand.llm.catalogue_match.classifier import Classifier
from chargehand.llm.catalogue_match.lexicon import GENERIC, KINDRED, LIGHT, NOT_NAMES, PLACES, PRONOUNS
from chargehand.llm.catalogue_match.meaning import Likeness, Meaning, Near
from chargehand.llm.catalogue_match.parameters import Found, extract, may_be_name, usually_given
from chargehand.llm.catalogue_match.profiles import (
    Profile,
    content_stems,
    first_word,
    leading_actions,
    literals,
    properties,
)
from chargehand.llm.catalogue_match.ranking import CERTAIN, LEAST_SHARE, Setting, Traits, Weights, shares
from chargehand.llm.catalogue_match.spelling import closest
from chargehand.llm.catalogue_match.training import BACKGROUND, CLASSES, OUT_OF_SCOPE, VAGUE, features
from chargehand.llm.catalogue_match.values import kind_of
from chargehand.llm.catalogue_match.words import Token, main_verb, stem, tokens, word_before

Outcome = Literal["intent", "vague", "doubtful", "out_of_scope", "background"]
"""`doubtful`: it may be nobody's work, but nothing shows that it is; it is asked about, not refused."""

CANDIDATES = 6  # intents looked at closely, by words and by meaning; 3 % of the right ones are below

# How far the verb of a clause agrees with an intent.
SAYING_LITTLE = frozenset({"run", "create"})  # what "make", "do" and "give" may be
LIKE_ACTION = 0.8  # from here on it is what the intent does, so that what nobody knows may be a name for it
SAME_ACTION, NO_ACTION, LIGHT_ACTION, OTHER_ACTION = 1.0, 0.65, 0.6, 0.25

# What a word that the intent does not know weighs against one that it knows.
WEIGHT_UNKNOWN, WEIGHT_KNOWN, WEIGHT_QUANTIFIER, WEIGHT_GENERIC = 1.5, 1.0, 0.5, 0.3
NAMED = 0.8  # a word that nobody knows, in the place of a value: it may as well change what is meant
MISSPELT = 0.9  # a word read as another one counts a little less


@dataclass(frozen=True)
class Guess:
    """One intent a clause could mean; `confidence` is the probability that it is right, as `ranking.py` has it."""

    profile: Profile
    confidence: float
    coverage: float
    found: Found
    agreement: float = 1.0
    recall: float = 1.0
    verbatim: bool = False  # the words of an example: they need no weighing
    unused: tuple[str, ...] = ()  # words with content that the intent does not account for
    supposed: tuple[str, ...] = ()  # words taken for a value because one is needed
    traits: Traits | None = None


@dataclass(frozen=True)
class Judgement:
    """What a clause is. `guesses` are sorted, the likeliest first; `strength` is how well the clause holds together."""

    outcome: Outcome
    guesses: tuple[Guess, ...]
    strength: float
    unknown: tuple[str, ...]
    respelt: tuple[tuple[str, str], ...] = ()
    setting: Setting | None = None  # what spoke for none of them; None for an example's words
    words: int = 0  # with content, values included

    @property
    def verbatim(self) -> bool:
        """Whether it is the words of an example."""
        return bool(self.guesses) and self.guesses[0].verbatim


class _Covered(NamedTuple):
    """The share of a clause's content that an intent accounts for, and the rest."""

    share: float
    unused: tuple[str, ...]


@dataclass(frozen=True)
class Judge:
    """What is trained on one catalog."""

    profiles: Mapping[str, Profile]
    known: frozenset[str]
    classifier: Classifier
    weights: Weights
    certain: float = CERTAIN  # a step below it is planned with a flag
    meaning: Meaning | None = None  # where the extra `embed` is used

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The words of the catalog alone, without those of the generic phrases."""
        return frozenset[str]().union(*(each.stems | each.values for each in self.profiles.values()))

    @cached_property
    def generic(self) -> frozenset[str]:
        """The general nouns that tell none of this catalog's intents from another: where one is named after the network
        and one after the instance, these say what is meant."""
        names = [frozenset(content_stems(tokens(intent.replace("_", " ")))) for intent in self.profiles]
        return GENERIC - {stem for stem in GENERIC if 0 < sum(stem in name for name in names) < TELLING * len(names)}

    @cached_property
    def told(self) -> frozenset[str]:
        """The words that are no value: all that are known but those that examples give for one."""
        return self.known - literals(list(self.profiles.values()))

    @cached_property
    def _examples(self) -> dict[tuple[str, ...], str]:
        """The examples that belong to one intent alone."""
        owners: dict[tuple[str, ...], set[str]] = {}
        for intent, each in self.profiles.items():
            for phrase in each.phrases:
                owners.setdefault(_spoken(phrase), set()).add(intent)
        return {words: next(iter(intents)) for words, intents in owners.items() if len(intents) == 1}

    def not_given(self, guess: Guess) -> list[str]:
        """Return the parameters that most examples of an intent give and a clause does not, as they are said."""
        missing = self._usual[guess.profile.spec.intent] - set(guess.found.values)
        return [name.replace("_", " ") for name in sorted(missing)]

    @cached_property
    def _usual(self) -> dict[str, frozenset[str]]:
        return {intent: usually_given(each) for intent, each in self.profiles.items()}

    def judge(self, clause: Sequence[Token], service: frozenset[str] = frozenset()) -> Judgement:
        """Return what a clause means; `service` is what the clause before was about, for pronouns and near ties."""
        verbatim = self._examples.get(_spoken(clause))
        if verbatim and (not service or self.profiles[verbatim].service in (service, frozenset())):
            guess = Guess(self.profiles[verbatim], MOST_SURE, 1.0, Found(), verbatim=True)
            return Judgement("intent", (guess,), 1.0, ())
        spelt, respelt = self._spelt(clause)
        every = self.classifier.probabilities(features(spelt, self.known))
        said = " ".join(token.raw for token in clause if token.kind != "mark")
        near = self.meaning.near(said) if self.meaning else None
        setting = self._setting(spelt, every, near)
        drafts = self._drafts(spelt, self._about(service, spelt, every), near, {wrong for wrong, _ in respelt})
        guesses, none = self._ranked(drafts, setting)
        outcome = self._outcome(spelt, guesses, none, every, setting.likeness)
        return Judgement(
            outcome=outcome,
            guesses=tuple(guesses),
            strength=_strength(outcome, guesses, every),
            unknown=tuple(token.raw for token in spelt if self._is_unknown(token)),
            respelt=respelt,
            setting=setting,
            words=sum(token.kind != "mark" and not token.is_filler for token in spelt),
        )

    @cached_property
    def _spellings(self) -> frozenset[str]:
        return self.known - GENERIC

    def _spelt(self, clause: Sequence[Token]) -> tuple[list[Token], tuple[tuple[str, str], ...]]:
        spelt, respelt = list(clause), []
        for place, token in enumerate(clause):
            right = closest(token.lower, self._spellings) if self._is_unknown(token) else None
            if right:
                spelt[place] = replace(token, stems=right.stems, actions=right.actions)
                respelt.append((token.raw, right.word))
        return spelt, tuple(respelt)

    def _is_unknown(self, token: Token) -> bool:
        return (
            token.kind == "word"
            and not token.actions
            and not token.is_filler
            and not set(token.stems) & (self.known | self.generic | NOT_NAMES)
        )

    def _about(self, service: frozenset[str], clause: Sequence[Token], shares: Mapping[str, float]) -> dict[str, float]:
        """Shares of the intents; those of other services are left out where the clause leaves its service open."""
        named = {stem for each in self.profiles.values() for stem in each.service} & set(content_stems(clause))
        open_to = {
            intent: share
            for intent, share in shares.items()
            if intent in self.profiles
            and (not service or named or self.profiles[intent].service in (service, frozenset()))
        }
        gained = sum(open_to.values()) or 1.0
        lost = sum(share for intent, share in shares.items() if intent in self.profiles) / gained
        return {intent: share * lost for intent, share in open_to.items()}

    def _drafts(
        self, clause: Sequence[Token], open_to: Mapping[str, float], near: Near | None, misspelt: set[str]
    ) -> list[Guess]:
        """The intents that the words or their meaning make likely, with what speaks for each."""
        if self._names_another(clause):
            open_to = {intent: share for intent, share in open_to.items() if not self._is_of_another(intent, clause)}
        likely = sorted(open_to, key=lambda intent: -open_to[intent])[:CANDIDATES]
        if near:
            likely += sorted(open_to, key=lambda intent: -near.intents[intent].nearest)[:CANDIDATES]
        drafts = [self._draft(clause, self.profiles[intent], misspelt) for intent in dict.fromkeys(likely)]
        among = sum(open_to.values()) or 1.0
        return [replace(each, traits=_traits(each, open_to[each.profile.spec.intent] / among, near)) for each in drafts]

    def _names_another(self, clause: Sequence[Token]) -> bool:
        """Whether most of what a clause is about are names that nobody knows."""
        about = self._topics(clause)
        unknown = sum(not set(token.stems) & self.vocabulary for token in about)
        return bool(unknown) and 2 * unknown >= len(about)

    def _is_of_another(self, intent: str, clause: Sequence[Token]) -> bool:
        """Whether an intent is about one thing that the clause does not name: "deploy grafana" deploys no wiki."""
        service = self.profiles[intent].service
        return bool(service) and not service & {stem for token in clause for stem in token.stems}

    def _ranked(self, drafts: Sequence[Guess], setting: Setting) -> tuple[list[Guess], float]:
        """The likeliest first, each with its probability; and how likely it is none of them."""
        found, none = shares([draft.traits for draft in drafts if draft.traits], setting, self.weights)
        sure = [min(MOST_SURE, share) for share in found]
        guesses = [replace(draft, confidence=p) for draft, p in zip(drafts, sure, strict=True)]
        return sorted(guesses, key=lambda guess: -guess.confidence), none

    def _setting(self, clause: Sequence[Token], every: Mapping[str, float], near: Near | None) -> Setting:
        about = [token for token in self._topics(clause) if not set(token.stems) <= VAGUE_STEMS]
        unknown = sum(not set(token.stems) & self.vocabulary for token in about)
        return Setting(
            always=1.0,
            stranger=math.log(every[OUT_OF_SCOPE] + LEAST_SHARE),
            likeness=near.stranger if near else 0.0,
            aside=near.aside if near else 0.0,
            unknown=unknown / max(1, len(about)),
            choice=math.log(max(1, len(self.profiles))),
        )

    def _draft(self, clause: Sequence[Token], profile: Profile, misspelt: set[str]) -> Guess:
        """A guess that is not weighed against the others yet."""
        found = extract(profile, clause, self.told)
        agreement, recall = _agreement(clause, profile), _recall(clause, profile, found, self.generic)
        named = _names(clause, profile, found, self.told) if self._does(clause, profile, agreement) else set()
        covered = self._coverage(clause, profile, found, (named, misspelt))
        return Guess(
            *(profile, 0.0, covered.share, found, agreement, recall),
            unused=covered.unused,
            supposed=tuple(clause[place].raw for place in sorted(found.supposed)),
        )

    def _does(self, clause: Sequence[Token], profile: Profile, agreement: float) -> bool:
        """Whether a clause does what the intent does. "Make" and "do" alone say nothing: a word of it must be there."""
        if agreement < LIKE_ACTION:
            return False
        return not leading_actions(clause) <= SAYING_LITTLE or bool(set(_objects(clause)) & profile.stems)

    def _coverage(
        self, clause: Sequence[Token], profile: Profile, found: Found, taken: tuple[set[int], set[str]]
    ) -> _Covered:
        """Return what an intent accounts for; `taken`: places taken for names, and words taken for misspelt."""
        verb, named = main_verb(clause), taken[0]
        good = total = 0.0
        unused = []
        for place, token in enumerate(clause):
            if place == verb or token.kind in ("mark", "particle") or token.is_filler:
                continue
            is_value = place in found.used or place in named
            covered = is_value or bool(set(token.stems) & profile.stems or token.actions & profile.deeds)
            weight = WEIGHT_KNOWN if is_value else self._weight(token)
            total += weight
            if covered:
                good += weight * _worth(token, place, found, taken)
            elif weight >= WEIGHT_KNOWN:
                unused.append(token.raw)
        return _Covered(good / total if total else 1.0, tuple(unused))

    def _weight(self, token: Token) -> float:
        if set(token.stems) & self.generic:
            return WEIGHT_GENERIC
        if token.lower in NOT_NAMES:
            return WEIGHT_QUANTIFIER
        return WEIGHT_KNOWN if token.is_value or set(token.stems) <= self.known else WEIGHT_UNKNOWN

    def _topics(self, clause: Sequence[Token]) -> list[Token]:
        """The words that say what a clause is about; a name somebody made up ("smtp-creds") says nothing of it."""
        verb = main_verb(clause)
        return [
            token
            for place, token in enumerate(clause)
            if place != verb and token.lower not in NOT_NAMES and len(token.stems) < 2 and content_stems([token])
            if not set(token.stems) <= self.generic and not (token.actions and token.actions & self._deeds)
        ]

    @cached_property
    def _deeds(self) -> frozenset[str]:
        return frozenset[str]().union(*(each.deeds for each in self.profiles.values()))

    def _outcome(
        self, clause: Sequence[Token], guesses: Sequence[Guess], none: float, every: Mapping[str, float], strange: float
    ) -> Outcome:
        content = [stem for stem in content_stems(clause) if stem not in self.generic]
        values = any(token.is_value for token in clause)
        named = set(_objects(clause, self.generic)) & self.vocabulary
        best = guesses[0].confidence if guesses else 0.0
        aside = max((VAGUE, OUT_OF_SCOPE, BACKGROUND), key=lambda label: every[label]) == BACKGROUND
        if all(token.kind == "mark" or token.is_filler for token in clause) and not _points(clause):
            return "background"
        if aside and not named and not values and _is_background(content):
            return "background"
        about = [stem for stem in _objects(clause, self.generic) if stem not in VAGUE_STEMS]
        if not (content or values) or (not (about or values) and best < PROMISING):
            return "vague"
        if best >= LIKELIEST and (none < NOBODYS or none < OUTWEIGHED * best):
            return "intent"
        shown = max(none, every[OUT_OF_SCOPE], strange) >= SHOWN_STRANGE or self._does_it_to_another(clause, guesses)
        return "out_of_scope" if shown else "doubtful"

    def _does_it_to_another(self, clause: Sequence[Token], guesses: Sequence[Guess]) -> bool:
        """Whether the likeliest intent does that, but only to what the clause does not name: "deploy grafana" where
        only packages are deployed. One that takes a name for what it does it to may well be meant.
        """
        if not guesses or guesses[0].agreement < LIKE_ACTION or guesses[0].recall or guesses[0].coverage < COVERED:
            return False
        spec, names = guesses[0].profile.spec, guesses[0].profile.open
        takes_names = any(kind_of(name, schema) == "text" for name, schema in properties(spec).items() if name in names)
        return not takes_names and self._names_another(clause)


def _traits(draft: Guess, share: float, near: Near | None) -> Traits:
    likeness = near.intents[draft.profile.spec.intent] if near else Likeness(0.0, 0.0)
    return Traits(
        share=math.log(max(LEAST_SHARE, share)),
        nearest=likeness.nearest,
        overall=likeness.overall,
        apart=near.apart(draft.profile.spec.intent) if near else 0.0,
        said=draft.coverage * draft.agreement,
        agreement=draft.agreement,
        recall=draft.recall,
    )


TELLING = 0.5  # share of the intents: a word in the names of more of them tells none from another
LIKELIEST = 0.15  # below it no intent is worth proposing
# From the first on a clause is no work here, unless the likeliest intent is likelier by so much.
NOBODYS, OUTWEIGHED = 0.33, 0.6
# Evidence that a clause is nobody's: how likely none of the intents is, the share of other trades, or the likeness to
# one of their phrases. Of 70 clauses of our tuning sets that were refused and are work, 20 reach it; of 78 that are
# none, 58 do.
SHOWN_STRANGE = 0.6
COVERED = 0.5  # of a clause with a verb and a name, the share that an intent with this verb accounts for at least
PROMISING = 0.5  # from it on a clause that sounds vague is one about an intent
MOST_SURE = 0.97  # what is said in an example's very words can still be meant otherwise


def _spoken(clause: Sequence[Token]) -> tuple[str, ...]:
    """The words alone, without what people put around them."""
    return tuple(token.lower for token in clause if token.kind != "mark" and token.lower not in POLITE)


POLITE = frozenset({"please", "pls", "kindly", "now", "quickly", "just", "our", "the", "my"})


def _is_background(content: Sequence[str]) -> bool:
    return sum(stem in BACKGROUND_STEMS for stem in content) >= 0.6 * len(content)  # names may follow: "regards, Tim"


BACKGROUND_STEMS = frozenset(
    content_stems(token for line in CLASSES[BACKGROUND].splitlines() for token in tokens(line))
)


VAGUE_STEMS = frozenset(content_stems(token for line in CLASSES[VAGUE].splitlines() for token in tokens(line)))


def _points(clause: Sequence[Token]) -> bool:
    return any(token.lower in PRONOUNS or token.actions for token in clause)


def _objects(clause: Sequence[Token], generic: frozenset[str] = GENERIC) -> list[str]:
    verb = main_verb(clause)
    rest = [token for place, token in enumerate(clause) if place != verb and token.lower not in NOT_NAMES]
    return [stem for stem in content_stems(rest) if stem not in generic]


def _worth(token: Token, place: int, found: Found, taken: tuple[set[int], set[str]]) -> float:
    named, misspelt = taken
    if place in found.supposed or (place in named and place not in found.used):
        return NAMED
    return MISSPELT if token.raw in misspelt else 1.0


def _names(clause: Sequence[Token], profile: Profile, found: Found, told: frozenset[str]) -> set[int]:
    """Return the places of words nobody knows that can be values of parameters the intent still has open.

    One word for each, two after a preposition: "restart checkout" names a deployment, whatever it is called; "the nginx
    thingy" names nothing.
    """
    verb = main_verb(clause)
    may = [at != verb and at not in found.used and may_be_name(clause, at, told) for at in range(len(clause))]
    left, aside = len(profile.open - set(found.values)), len(profile.aside - set(found.values))
    names: set[int] = set()
    for start, end in _runs(may):
        placed = _is_placed(clause, start)
        if end - start > 1 + placed or (left < 1 and not (placed and aside)):
            continue
        names.update(range(start, end))
        left -= left > 0
        aside -= placed
    return names


def _runs(may: Sequence[bool]) -> list[tuple[int, int]]:
    """Return where runs of true start and end."""
    edges = [
        at for at in range(len(may) + 1) if (may[at] if at < len(may) else False) != (may[at - 1] if at else False)
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _is_placed(clause: Sequence[Token], place: int) -> bool:
    """Whether a preposition stands before it."""
    return word_before(clause, place) in PLACES | {"for", "with"}


def _agreement(clause: Sequence[Token], profile: Profile) -> float:
    """Return how far what is to be done is what the intent does."""
    verb = main_verb(clause)
    actions = leading_actions(clause)
    nouns = frozenset[str]().union(*(token.actions for place, token in enumerate(clause) if place != verb))
    if verb is None and profile.verbs & set(first_word(clause)):
        return SAME_ACTION
    if not profile.actions:
        return NO_ACTION
    if actions & profile.actions or (nouns & profile.actions and (not actions or actions & LIGHT)):
        return SAME_ACTION
    kindred = max((far for kin, far in KINDRED if actions & kin and profile.actions & kin), default=0.0)
    if kindred:
        return kindred
    if not actions:
        return OTHER_ACTION if nouns else NO_ACTION
    return LIGHT_ACTION if actions <= LIGHT and not nouns else OTHER_ACTION


def _recall(clause: Sequence[Token], profile: Profile, found: Found, generic: frozenset[str]) -> float:
    """Return how much of what the intent's nearest example is about the clause names.

    A value stands for the word that would announce it: "restart radarr" for "restart the radarr container".
    """
    said = set(content_stems(clause)) | {stem(part) for name in found.values for part in name.split("_")}
    wanted = [set(_objects(phrase, generic)) - profile.service for phrase in profile.phrases]
    return max((len(each & said) / len(each) if each else 1.0 for each in wanted), default=1.0)


UNSURE = 0.3  # an order that is about something here, whatever it is, holds together better than half of two does
STRANGER, KNOWN_STRANGER = 0.4, 0.3  # what is only unknown holds less together than another trade's: it may be two


def _strength(outcome: Outcome, guesses: Sequence[Guess], every: Mapping[str, float]) -> float:
    best = guesses[0].confidence if guesses else 0.0
    strange = max(best, STRANGER if every[OUT_OF_SCOPE] < KNOWN_STRANGER else 0.55)
    by_outcome = {
        "intent": max(best * guesses[0].coverage * guesses[0].agreement if guesses else 0.0, UNSURE),
        "vague": max(best, UNSURE),
        "out_of_scope": strange,
        "doubtful": strange,
        "background": every[BACKGROUND],
    }
    return by_outcome[outcome]
