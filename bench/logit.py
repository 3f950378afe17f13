"""A conditional logit fitted to choices: which of the intents a clause means, or none of them.

The weights are those under which what people meant is likeliest, with a small penalty on their squares. A set counts by
the square root of its size, so that neither the largest nor the smallest decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from chargehand.llm.catalogue_match.ranking import Setting, Traits, Weights

PENALTY = 0.02  # best of 0.005, 0.02 and 0.1 on sets left out
MOST_NONE = 0.25  # of the choices that mean an intent: sets that were written to test refusals hold more than people do


@dataclass(frozen=True)
class Choice:
    """What one clause could mean. `right` are the places of what it does mean; with `none` it is no work here."""

    traits: tuple[Traits, ...]
    setting: Setting
    right: frozenset[int]
    none: bool


class _Packed(NamedTuple):
    """The choices of a set as arrays: choice x intent x trait, choice x setting, and choice x (intent or none)."""

    traits: Any
    there: Any
    setting: Any
    right: Any
    weight: Any


def fit(sets: Sequence[Sequence[Choice]]) -> Weights:
    """Return the weights fitted to sets of choices, rounded to what a reader can compare."""
    import numpy as np
    from scipy.optimize import minimize

    packed = [_pack(each) for each in sets if each]
    start = np.zeros(len(Traits._fields) + len(Setting._fields))
    found = minimize(lambda w: _loss(w, packed), start, jac=True, method="L-BFGS-B").x
    numbers = tuple(round(float(number), 3) for number in found)
    return Weights(numbers[: len(Traits._fields)], numbers[len(Traits._fields) :])


def _pack(choices: Sequence[Choice]) -> _Packed:
    import numpy as np

    most = max(len(each.traits) for each in choices)
    traits = np.zeros((len(choices), most, len(Traits._fields)))
    there, right = np.zeros((len(choices), most), bool), np.zeros((len(choices), most + 1), bool)
    for row, each in enumerate(choices):
        traits[row, : len(each.traits)], there[row, : len(each.traits)] = each.traits, True
        right[row, [most] if each.none else sorted(each.right)] = True
    none = right[:, -1]
    share = min(1.0, MOST_NONE * float((~none).sum()) / max(1, int(none.sum())))
    weight = np.where(none, share, 1.0) / len(choices) ** 0.5
    return _Packed(traits, there, np.array([each.setting for each in choices]), right, weight)


def _loss(weights: Any, packed: Sequence[_Packed]) -> tuple[float, Any]:
    """The negative log likelihood with its penalty, and its gradient."""
    import numpy as np

    cut = len(Traits._fields)
    total, gradient = PENALTY * float(weights @ weights), 2 * PENALTY * weights
    for each in packed:
        shares = _shares(weights[:cut], weights[cut:], each)
        likely = (shares * each.right).sum(1)
        total -= float((each.weight * np.log(likely + 1e-12)).sum())
        off = (shares - shares * each.right / likely[:, None]) * each.weight[:, None]
        gradient[:cut] += np.einsum("nk,nkf->f", off[:, :-1], each.traits)
        gradient[cut:] += off[:, -1] @ each.setting
    return total, gradient


def _shares(of_traits: Any, of_setting: Any, each: _Packed) -> Any:
    import numpy as np

    scores = np.where(each.there, each.traits @ of_traits, -np.inf)
    scores = np.concatenate([scores, (each.setting @ of_setting)[:, None]], axis=1)
    sizes = np.exp(scores - scores.max(1, keepdims=True))
    return sizes / sizes.sum(1, keepdims=True)
