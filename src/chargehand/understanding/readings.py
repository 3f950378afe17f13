"""Two readings of the same words, the catalogue match's and a model's: which is used, and what is asked about.

    is_sure(match)                    -> whether a model need be asked at all
    together(model, match, opinion)   -> the model's reading, with what the match knows better

They err in different places. The match reads plain orders and never makes anything up, but knows few words; a model
knows the words, and says something whatever it is asked. Where both agree that is worth more than either; where they
differ a person sees both readings and picks one by its number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chargehand.domain.llm import Opinion
from chargehand.domain.plans import DecomposedRequest, Subtask
from chargehand.understanding import cross_check

HELD = frozenset({"negation", "limit", "doubt", "condition", "choice", "report", "question", "time"})
"""Guards of the match that hold a plan whatever a model makes of the words. "order" is not among them: which part comes
first is read by code from a model's quotations, too."""

LIFTED = frozenset({"limit", "condition", "report", "question"})
"""Those that both readings together lift: "but" and "once" are grammar, and where a model and the match find the same
intents in spite of them they become a flag. What is not to be done, what is doubted, when, and which of two stay
questions."""

SHARED = 0.5  # of a part's words: more, and two readings are of the same part


def is_sure(match: DecomposedRequest) -> bool:
    """Whether the match's plan can be used at once: it asks nothing, leaves nothing out and doubts no step."""
    whole = not match.ambiguities and not match.out_of_scope
    return bool(match.subtasks) and whole and not any(task.flags for task in match.subtasks)


def why_unsure(match: DecomposedRequest) -> str | None:
    """Return what the match is not sure of, for the record; None where it is sure and a model is asked anyway."""
    if is_sure(match):
        return None
    if match.ambiguities:
        return f"the catalogue match asks: {match.ambiguities[0]}"
    if match.out_of_scope:
        return f"the catalogue match finds nothing here for “{match.out_of_scope[0]}”"
    flags = [flag for task in match.subtasks for flag in task.flags]
    return f"the catalogue match doubts: {flags[0]}" if flags else "the catalogue match reads nothing in it"


class Choice(NamedTuple):
    """One reading that a person can pick, and its subtasks."""

    told: str
    subtasks: tuple[Subtask, ...]


def together(model: DecomposedRequest, match: DecomposedRequest | None, opinion: Opinion | None) -> DecomposedRequest:
    """Return the model's reading beside the match's; the match's own where the model finds nothing.

    A guard of the match asks its question, parts that it finds nothing for are left out or flagged, and where the two
    differ there is a choice.
    """
    if match is None or opinion is None:
        return model
    known = _without_foreign(model, match, opinion)
    if not known.subtasks:
        return match.model_copy(update={"notice": ""})
    held, lifted = _held(model, known, match, opinion)
    joined = known.model_copy(
        update={
            "subtasks": tuple(_doubted(task, opinion.foreign, lifted) for task in known.subtasks),
            "ambiguities": tuple(dict.fromkeys([*known.ambiguities, *held])),
        }
    )
    return _with_choice(joined, match) if _differ(model, match, opinion) else joined


def _without_foreign(model: DecomposedRequest, match: DecomposedRequest, opinion: Opinion) -> DecomposedRequest:
    """The model's reading without the parts that the match finds nothing for, where it is sure of another part: then it
    knows what this request is about. Where it finds nothing at all, it may only not know the words.
    """
    left = [part for part in opinion.foreign if not any(_same(part, task.words) for task in model.subtasks)]
    strange = opinion.foreign if opinion.seen else ()
    kept = [task for task in model.subtasks if not any(_same(part, task.words) for part in strange)]
    kept = kept if _whole(kept) else list(model.subtasks)
    dropped = [part for part in strange if len(kept) < len(model.subtasks)]
    parts = dict.fromkeys([*model.out_of_scope, *left, *dropped])
    return model.model_copy(update={"subtasks": tuple(_renumbered(kept)), "out_of_scope": tuple(parts)})


def _whole(kept: Sequence[Subtask]) -> bool:
    """Whether nothing that is kept waits for, or takes a value of, what is not."""
    orders = {task.order for task in kept}
    needed = {other for task in kept for other in (*task.depends_on, *(ref.task for ref in task.inputs.values()))}
    return needed <= orders


def _renumbered(subtasks: Sequence[Subtask]) -> list[Subtask]:
    places = {task.order: place for place, task in enumerate(subtasks, start=1)}
    return [
        task.model_copy(
            update={
                "order": places[task.order],
                "depends_on": tuple(places[other] for other in task.depends_on),
                "inputs": {n: ref.model_copy(update={"task": places[ref.task]}) for n, ref in task.inputs.items()},
            }
        )
        for task in subtasks
    ]


def _held(
    model: DecomposedRequest, known: DecomposedRequest, match: DecomposedRequest, opinion: Opinion
) -> tuple[list[str], list[str]]:
    """The questions of guards that hold the plan, and those that both readings together lift."""
    same = _agree(model, match, opinion) if known.subtasks == model.subtasks else False
    holding = HELD if len(known.subtasks) > 1 else HELD | {"order"}  # of one part no other part says when
    lifted = LIFTED if same else frozenset[str]()
    return (
        [question for name, question in opinion.guarded if name in holding - lifted],
        [question for name, question in opinion.guarded if name in lifted],
    )


def _with_choice(joined: DecomposedRequest, match: DecomposedRequest) -> DecomposedRequest:
    choices = (Choice("a model", joined.subtasks), Choice("the catalogue match", match.subtasks))
    question = f"Which is meant? {_listed(choices)} Answer with the number."
    return joined.model_copy(
        update={
            "ambiguities": (*joined.ambiguities, question),
            "choices": tuple(each.subtasks for each in choices),
        }
    )


def _agree(model: DecomposedRequest, match: DecomposedRequest, opinion: Opinion) -> bool:
    """Whether the match takes each part for what the model does, and reads nothing that the model does not."""
    pairs = zip(model.subtasks, opinion.queries, strict=False)
    alike = all(cross_check.compare(task.intent, view) in ("agrees", "leans") for task, view in pairs)
    return alike and not Counter(t.intent for t in match.subtasks) - Counter(t.intent for t in model.subtasks)


def _doubted(task: Subtask, foreign: Sequence[str], lifted: Sequence[str]) -> Subtask:
    """The subtask with flags for what the match says against it, short of another reading."""
    strange = [f"the catalogue match finds nothing here for “{part}”" for part in foreign if _same(part, task.words)]
    flags = [*task.flags, *strange, *(question.partition(". Please")[0] for question in lifted)]
    return task.model_copy(update={"flags": tuple(dict.fromkeys(flags))})


def picked(asked: DecomposedRequest, words: str) -> DecomposedRequest | None:
    """Return the reading that an answer picks by its number; None where it is no number of one.

    A person who picks has looked at it: the other questions about the same words are answered with it.
    """
    number = words.strip().rstrip(".")
    if not number.isascii() or not number.isdigit() or not 1 <= int(number[:3]) <= len(asked.choices):
        return None
    chosen = asked.choices[int(number[:3]) - 1]
    return asked.model_copy(update={"subtasks": chosen, "ambiguities": (), "choices": ()})


def _differ(model: DecomposedRequest, match: DecomposedRequest, opinion: Opinion) -> bool:
    """Whether the match takes the words of a part for something else: sure of it, or so unsure that it asks."""
    if not match.subtasks or len(opinion.queries) != len(model.subtasks):
        return False
    against = {"differs", "doubts"} if match.ambiguities else {"differs"}
    pairs = zip(model.subtasks, opinion.queries, strict=True)
    return any(cross_check.compare(task.intent, view) in against for task, view in pairs)


def _listed(choices: Sequence[Choice]) -> str:
    return " ".join(f"{number}: {_steps(each.subtasks)}." for number, each in enumerate(choices, start=1))


def _steps(subtasks: Iterable[Subtask]) -> str:
    return ", then ".join(f"{task.intent} (“{task.words}”)" for task in subtasks) or "nothing"


def _same(part: str, words: str) -> bool:
    ours, theirs = set(part.casefold().split()), set(words.casefold().split())
    return len(ours & theirs) > SHARED * min(len(ours), len(theirs)) if ours and theirs else False
