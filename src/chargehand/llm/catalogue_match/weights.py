"""Trained weights on disk, so that a process does not train, nor import what training needs, for a catalog it knows.

Plain arrays and JSON: reading a file never runs anything from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4
from zipfile import BadZipFile

from chargehand import folders
from chargehand.llm.catalogue_match.classifier import FOLDS, STRENGTH, TEMPERATURES, Classifier
from chargehand.llm.catalogue_match.training import Example

KEPT = 8  # catalogs; the files of older ones are deleted


def load(folder: Path, phrases: Sequence[Example]) -> Classifier | None:
    """Return the weights trained on these phrases, None when there are none that can be read."""
    import numpy as np

    with (
        suppress(OSError, ValueError, KeyError, BadZipFile),  # absent, cut short, of another version: train again
        _file(folder, phrases).open("rb") as file,
        np.load(file, allow_pickle=False) as kept,
    ):
        words = json.loads(str(kept["words"]))
        return Classifier(
            classes=tuple(words["classes"]),
            vocabulary={feature: column for column, feature in enumerate(words["vocabulary"])},
            idf=kept["idf"],
            weights=kept["weights"],
            bias=kept["bias"],
            temperature=float(words["temperature"]),
            recalled={label: (right, total) for label, (right, total) in words["recalled"].items()},
        )
    return None


def save(folder: Path, phrases: Sequence[Example], trained: Classifier) -> None:
    """Keep the weights, whole or not at all. A full disk or a read-only folder only costs training again."""
    import numpy as np

    words = {
        "classes": trained.classes,
        "vocabulary": sorted(trained.vocabulary, key=lambda feature: trained.vocabulary[feature]),
        "temperature": trained.temperature,
        "recalled": trained.recalled,
    }
    told = json.dumps(words)
    small = trained.weights.astype(np.float32)  # half the size; the shares differ in the sixth digit
    keep(
        _file(folder, phrases),
        lambda out: np.savez(out, words=told, idf=trained.idf, weights=small, bias=trained.bias),
    )


def keep(file: Path, write: Callable[[BinaryIO], None]) -> None:
    """Keep a file in a folder of trained things, whole or not at all, and forget old ones. Nothing is raised."""
    draft = file.with_name(f"{uuid4().hex}.new")
    try:
        folders.make(file.parent)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            write(out)
        draft.replace(file)
        _prune(file.parent)
    except OSError:
        draft.unlink(missing_ok=True)


def _file(folder: Path, phrases: Sequence[Example]) -> Path:
    """Named by all that training depends on: the phrases as features, its settings, and who does it."""
    learned_from = json.dumps([STRENGTH, FOLDS, TEMPERATURES, version("scikit-learn"), phrases])
    return folder / f"match-{hashlib.sha256(learned_from.encode()).hexdigest()[:32]}.npz"


def _prune(folder: Path) -> None:
    newest = sorted(folder.glob("match-*.npz"), key=_age)
    for file in [*newest[KEPT:], *sorted(folder.glob("meaning-*.npy"), key=_age)[KEPT:]]:
        file.unlink(missing_ok=True)


def _age(file: Path) -> float:
    return -file.stat().st_mtime
