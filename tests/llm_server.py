"""An LLM server that says what a test wrote: OpenAI's chat completions over real HTTP, with every way to fail.

    with LLMServer() as server:
        server.answers["deploy it"] = [fails(503), says({"subtasks": [...]})]
        llm = ProxyLLM(server.url, "small", tier="local", key=None, timeout=5)

It runs in threads of its own, so that a client that blocks the event loop is seen to block it.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

DRIP = 0.05  # seconds between two bytes: far below any time-out for a read, so that only one for the whole ends it


@dataclass(frozen=True)
class Answer:
    """What goes over the wire, and how: whole, never, a byte at a time, or cut off half-way."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Literal["whole", "hang", "drip", "cut"] = "whole"
    delay: float = 0.0


HANG = Answer(manner="hang")


def says(value: object, **fields: Any) -> Answer:
    """Return a completion whose content is that value as JSON."""
    return writes(json.dumps(value), **fields)


def writes(
    content: str | None,
    *,
    finish: str = "stop",
    headers: Mapping[str, str] | None = None,
    manner: Literal["whole", "drip", "cut"] = "whole",
    delay: float = 0.0,
    **message: object,
) -> Answer:
    """Return a completion with that text; `message` are further parts of the message."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": 321, "completion_tokens": 45, "total_tokens": 366}
    body = {"id": "c-1", "object": "chat.completion", "model": "small", "choices": [choice], "usage": usage}
    return Answer(json.dumps(body).encode(), headers=headers or {}, manner=manner, delay=delay)


def fails(status: int, message: str = "something broke", **fields: object) -> Answer:
    """Return a refusal as OpenAI, LiteLLM and Ollama word it; `retry_after` becomes a header."""
    headers = {"retry-after": str(fields.pop("retry_after"))} if "retry_after" in fields else {}
    return Answer(json.dumps({"error": {"message": message, **fields}}).encode(), status, headers)


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: Any


class LLMServer:
    """Answers each request by its words, with one answer after the other; the last one is repeated."""

    def __init__(
        self, answers: Mapping[str, Sequence[Answer]] | None = None, models: Sequence[str] = ("small",)
    ) -> None:
        self.answers: dict[str, Sequence[Answer]] = dict(answers or {})
        self.otherwise: Answer | None = None
        self.listing = Answer(json.dumps({"object": "list", "data": [{"id": name} for name in models]}).encode())
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._http = _Server(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def of(self, words: str) -> list[Asked]:
        """Return what was asked about these words."""
        return [asked for asked in self.asked if _words(asked.body) == words]

    def answer(self, asked: Asked) -> Answer:
        """Return the next answer that was written for this."""
        if asked.path == "/v1/models":
            return self.listing
        words = _words(asked.body)
        with self._lock:
            before = len(self.of(words))
            self.asked.append(asked)
        written = self.answers.get(words) or ([self.otherwise] if self.otherwise else [fails(500, "nothing written")])
        return written[min(before, len(written) - 1)]

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


def _words(body: Any) -> str:
    return str(json.loads(body["messages"][1]["content"])["request"])


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # `server_close` waits for them
    request_queue_size = 100

    def __init__(self, script: LLMServer) -> None:
        self.script = script
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _answer(self, body: Any) -> None:
        script = self.server.script
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = script.answer(Asked(self.path, headers, body))
        try:
            script.closing.wait(answer.delay)
            if answer.manner == "hang":
                self._hang()
            else:
                self._send(answer)
        except OSError:  # the client gave up: what these answers are for
            pass
        self.close_connection = True

    def _hang(self) -> None:
        self.connection.settimeout(0.05)
        while not self.server.script.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"content-type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if answer.manner == "cut":
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.connection.shutdown(socket.SHUT_RDWR)
        elif answer.manner == "drip":
            self._drip(answer.body)
        else:
            self.wfile.write(answer.body)

    def _drip(self, body: bytes) -> None:
        for byte in body:
            if self.server.script.closing.is_set():
                return
            self.wfile.write(bytes([byte]))
            time.sleep(DRIP)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
