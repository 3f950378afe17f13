"""The scripted server itself: real HTTP, a thread for each connection, so that one that hangs holds up no other."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from chargehand.testing.llm.answers import Answer, fails
from chargehand.testing.llm.dialects import DIALECTS, words_of

DRIP = 0.05  # seconds between two bytes: far below any time-out for a read, so that only one for the whole ends it
UNSCRIPTED = fails(500, "nothing is scripted for this")


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Quota:
    """What a LiteLLM proxy tells about the key and its user. Money in US dollars; None: no limit."""

    spend: float = 0.0
    max_budget: float | None = 1.0
    resets: str = "2026-12-01T00:00:00Z"


@dataclass
class LLMServer:
    """Answers each request by its words, with one answer after the other; the last one is repeated.

        with LLMServer() as server:
            server.answers["deploy it"] = [fails(503), says({"subtasks": [...]})]

    It runs in threads of this process; `ScriptedServer` runs it in a process of its own.
    """

    answers: dict[str, Sequence[Answer]] = field(default_factory=dict)
    otherwise: Answer | None = None
    models: Sequence[str] = ("small",)
    listing: Answer | None = None  # what a look at the models brings instead of them
    quota: Quota = field(default_factory=Quota)
    show_seconds: float = 0.0  # how long Ollama's /api/show takes: slow on a real one while a model is loaded
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._http = _Server(self)
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def of(self, words: str) -> list[Asked]:
        """Return what was asked about these words."""
        return [asked for asked in list(self.asked) if words_of(asked.body) == words]

    def answer(self, asked: Asked) -> Answer:
        """Return the next answer that was scripted for this."""
        words = words_of(asked.body)
        with self._lock:
            self.asked.append(asked)
            before = self._seen.get(words, 0)
            self._seen[words] = before + 1
            scripted = self.answers.get(words) or [self.otherwise or UNSCRIPTED]
        return scripted[min(before, len(scripted) - 1)]

    def forget(self) -> None:
        """Begin every script from its first answer again."""
        with self._lock:
            self._seen.clear()
            self.asked.clear()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # `server_close` waits for them
    request_queue_size = 500

    def __init__(self, script: LLMServer) -> None:
        self.script = script
        super().__init__(("127.0.0.1", script.port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        listing = self.server.script.listing
        if listing is not None:
            self._scripted("/v1/chat/completions", "", listing)
            return
        found = facts(self.server.script, urlsplit(self.path).path)
        self._whole(404 if found is None else 200, {} if found is None else found)

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if path == "/api/show":
            self.server.script.closing.wait(self.server.script.show_seconds)
            self._whole(200, {"template": "", "model_info": {}, "capabilities": ["completion"]})
        elif path in DIALECTS:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._scripted(path, str(body.get("model", "")), self.server.script.answer(Asked(path, headers, body)))
        else:
            self._whole(404, {"error": {"message": f"there is no {path}"}})
        self.close_connection = True

    def _scripted(self, path: str, model: str, answer: Answer) -> None:
        with suppress(OSError):  # the client gave up: what these answers are for
            self.server.script.closing.wait(answer.delay)
            if answer.manner == "hang":
                self._hang()
            else:
                body = json.dumps(DIALECTS[path](answer, model)) if answer.body is None else answer.body
                self._send(answer, body.encode())

    def _hang(self) -> None:
        self.connection.settimeout(0.05)
        while not self.server.script.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue

    def _whole(self, status: int, value: Any) -> None:
        with suppress(OSError):
            self._send(Answer(status=status), json.dumps(value).encode())

    def _send(self, answer: Answer, body: bytes) -> None:
        self.send_response(answer.status)
        for name, value in {"content-type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if answer.manner == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.connection.shutdown(socket.SHUT_RDWR)
        elif answer.manner == "drip":
            self._drip(body)
        else:
            self.wfile.write(body)

    def _drip(self, body: bytes) -> None:
        for byte in body:
            if self.server.script.closing.wait(DRIP):
                return
            self.wfile.write(bytes([byte]))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def facts(script: LLMServer, path: str) -> Any:
    """Return what a GET of that path brings: the models there are, or what the key has left; None: nothing there."""
    quota = script.quota
    spent = {"spend": quota.spend, "max_budget": quota.max_budget, "budget_reset_at": quota.resets}
    return {
        "/v1/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in script.models]},
        "/api/tags": {"models": [{"name": name, "model": name} for name in script.models]},
        "/key/info": {"key": "0a1b", "info": {**spent, "key_name": "sk-...8aow", "user_id": "chargehand"}},
        "/user/info": {"user_id": "chargehand", "user_info": {**spent, "user_id": "chargehand"}, "keys": []},
        "/v2/user/info": {**spent, "user_id": "chargehand"},
    }.get(path)
