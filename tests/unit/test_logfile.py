"""The log in both its forms."""

from __future__ import annotations

import json
import logging
from uuid import UUID

import pytest

from chargehand.cli.terminal.logfile import FORMS, IDS

ID = UUID(int=7)


def entry(form: str, message: str, error: BaseException | None = None, **ids: UUID) -> str:
    record = logging.makeLogRecord({"name": "chargehand.engine", "levelno": 30, "levelname": "WARNING", "msg": message})
    record.exc_info = error and (type(error), error, error.__traceback__)
    for name, value in ids.items():
        setattr(record, name, value)
    return FORMS[form]().format(record)


def test_an_entry_as_json_is_one_object_with_the_ids_of_what_it_is_about() -> None:
    text = entry("json", "two\nlines – of it", RuntimeError("no"), request_id=ID, trace_id=ID)
    assert "\n" not in text
    value = json.loads(text)
    assert (value["level"], value["logger"], value["message"]) == ("WARNING", "chargehand.engine", "two\nlines – of it")
    assert (value["request_id"], value["trace_id"]) == (str(ID), str(ID))
    assert "RuntimeError: no" in value["error"]
    assert value["at"].endswith("+00:00")
    assert not set(IDS) - {"request_id", "trace_id"} & value.keys()


@pytest.mark.parametrize("form", FORMS)
def test_passwords_are_hidden_in_both_forms(form: str) -> None:
    shown = entry(form, "cannot reach amqp://ann:hunter2@broker/", RuntimeError("password=hunter2 is wrong"))
    assert "hunter2" not in shown
