"""A status page for a home: probes each portal in the background and shows which are up.

    status_page.py --config config.json [--check]

`/` is the page, `/api/status` the same as JSON, `/healthz` says whether the page itself works. The configuration is
read again when the file changes or on SIGHUP; a broken one is reported on the page and the last good one stays.

    {"title": "Home", "host": "127.0.0.1", "port": 8420, "interval_seconds": 5, "timeout_seconds": 3,
     "portals": {"Wiki": {"url": "http://127.0.0.1:8080/", "accept": [401], "verify_tls": false}}}
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import signal
import socket
import socketserver
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

SHOWN_PROBES = 40  # bars of history: what fits beside a name on a phone
WORDS = {"up": "Up", "down": "Down", "checking": "Checking"}


class BadConfig(Exception):
    """The configuration cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Portal:
    """One thing to watch. `accept`: statuses from 400 on that still mean up, such as a login page's 401."""

    name: str
    url: str
    accept: tuple[int, ...] = ()
    verify_tls: bool = True


@dataclass(frozen=True)
class Settings:
    """What the configuration file says. Durations in seconds."""

    title: str = "Status"
    host: str = "127.0.0.1"
    port: int = 8420
    interval_seconds: float = 5.0
    timeout_seconds: float = 3.0
    portals: tuple[Portal, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What one probe found."""

    up: bool
    at: datetime
    latency_ms: float
    detail: str
    http_status: int | None = None


def read_settings(path: Path) -> Settings:
    """Return the settings of a file. Raises BadConfig."""
    try:
        data = json.loads(path.read_text())
        portals = tuple(_portal(name, entry) for name, entry in data.pop("portals", {}).items())
        settings = Settings(portals=portals, **data)
        if min(settings.interval_seconds, settings.timeout_seconds, settings.port) <= 0 or settings.port > 65535:
            raise BadConfig(f"{path}: port, interval_seconds and timeout_seconds must be positive numbers.")
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}.") from error
    except json.JSONDecodeError as error:
        raise BadConfig(f"{path} is not JSON: line {error.lineno}: {error.msg}.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadConfig(f"{path} does not look like the example at the top of status_page.py: {error}.") from error
    return settings


def _portal(name: str, entry: dict[str, Any]) -> Portal:
    parts = urllib.parse.urlsplit(entry["url"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadConfig(f"Portal {name!r}: the url must begin with http:// or https:// and name a host.")
    if parts.username or parts.password:  # the page shows the url to everyone
        raise BadConfig(
            f'Portal {name!r}: keep user and password out of the url; "accept": [401] counts a login as up.'
        )
    return Portal(name, entry["url"], tuple(entry.get("accept", ())), bool(entry.get("verify_tls", True)))


def probe(portal: Portal, timeout: float) -> Reading:
    """Ask a portal for its page; never through a proxy, since portals are near."""
    tls = ssl.create_default_context() if portal.verify_tls else ssl._create_unverified_context()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
    request = urllib.request.Request(portal.url, headers={"User-Agent": "homelab-status-page"})
    begun, status, problem = time.monotonic(), None, ""
    try:
        with opener.open(request, timeout=timeout) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem = _in_words(getattr(error, "reason", error), timeout)
    up = status is not None and (status < 400 or status in portal.accept)
    latency = round((time.monotonic() - begun) * 1000, 1)
    return Reading(up, datetime.now(UTC), latency, problem or f"answers {status}", status)


def _in_words(error: object, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, socket.gaierror):
        return "its name is not known to the resolver"
    if isinstance(error, ssl.SSLCertVerificationError):
        return 'its certificate is not trusted ("verify_tls": false accepts it)'
    return str(error) or type(error).__name__


@dataclass
class Watch:
    """One portal, probed by a thread of its own, so that a slow one delays nobody else's news."""

    portal: Portal
    interval: float
    timeout: float
    readings: tuple[Reading, ...] = ()  # replaced, never changed: the pages read it while the thread writes
    changed_at: datetime | None = None
    probing_since: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Probe from now on, at once and then at every interval."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self.ended.is_set():
            self.probing_since = time.monotonic()
            self._note(probe(self.portal, self.timeout))
            self.probing_since = 0.0
            self.ended.wait(self.interval)

    def _note(self, reading: Reading) -> None:
        if not self.readings or self.readings[-1].up != reading.up:
            self.changed_at = reading.at
            say(f"{self.portal.name}: {'up' if reading.up else 'down'} ({reading.detail})")
        self.readings = (*self.readings[1 - SHOWN_PROBES :], reading)

    def _stuck(self) -> bool:
        # The socket's timeout is per read: a server that sends a byte at a time outlasts it.
        return bool(self.probing_since) and time.monotonic() - self.probing_since > 2 * self.timeout

    def facts(self) -> dict[str, Any]:
        """Return what is known about the portal, for people and programs."""
        last = self.readings[-1] if self.readings else None
        status = "checking" if last is None else "up" if last.up else "down"
        detail = last.detail if last else "not probed yet"
        if self._stuck():
            status, detail = "down", f"no complete answer within {2 * self.timeout:g} s"
        return {
            "name": self.portal.name,
            "url": self.portal.url,
            "status": status,
            "detail": detail,
            "http_status": last.http_status if last else None,
            "latency_ms": last.latency_ms if last else None,
            "checked_at": last.at.isoformat(timespec="seconds") if last else None,
            "since": self.changed_at.isoformat(timespec="seconds") if self.changed_at else None,
            "history": [reading.up for reading in self.readings],
        }


class Board:
    """All portals as configured now."""

    def __init__(self, path: Path) -> None:
        """Read the configuration. Raises BadConfig."""
        self.path = path
        self.settings = read_settings(path)
        self.stamp = self._stamp()
        self.problem = ""
        self.watches: dict[Portal, Watch] = {}

    def follow(self) -> None:
        """Watch what the settings name; a portal that stays as it was keeps its history."""
        settings, before = self.settings, self.watches
        now = {
            portal: before.get(portal) or Watch(portal, settings.interval_seconds, settings.timeout_seconds)
            for portal in settings.portals
        }
        self.watches = now
        for portal, watch in before.items():
            if portal not in now:
                watch.ended.set()
        for portal, watch in now.items():
            watch.interval, watch.timeout = settings.interval_seconds, settings.timeout_seconds
            if portal not in before:
                watch.start()

    def reload(self, asked: bool) -> None:
        """Read the configuration again if it was asked for or the file has changed."""
        stamp = self._stamp()
        if not asked and stamp == self.stamp:
            return
        self.stamp = stamp
        try:
            self.settings, self.problem = read_settings(self.path), ""
        except BadConfig as error:
            self.problem = str(error)
        say(self.problem or f"configuration read: {len(self.settings.portals)} portals")
        self.follow()

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)

    def facts(self) -> dict[str, Any]:
        """Return the whole board as `/api/status` shows it."""
        portals = [watch.facts() for watch in self.watches.values()]
        states = {portal["status"] for portal in portals}
        overall = next((state for state in ("down", "checking", "up") if state in states), "empty")
        return {
            "title": self.settings.title,
            "status": overall,
            "portals": portals,
            "interval_seconds": self.settings.interval_seconds,
            "config_problem": self.problem or None,
            "now": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def verdict(facts: dict[str, Any]) -> str:
    """Say the state of all portals in one sentence."""
    portals = facts["portals"]
    down = [portal["name"] for portal in portals if portal["status"] == "down"]
    if not portals:
        return "No portals yet"
    if down:
        return f"{down[0]} is down" if len(down) == 1 else f"{len(down)} of {len(portals)} portals are down"
    if facts["status"] == "checking":
        return "Checking the portals"
    return {1: "The portal is up", 2: "Both portals are up"}.get(len(portals), f"All {len(portals)} portals are up")


def render(facts: dict[str, Any]) -> str:
    """Return the page."""
    empty = '<li class="empty">Add portals to <code>config.json</code>; they appear here within a second.</li>'
    return PAGE.substitute(
        style=STYLE,
        script=SCRIPT,
        title=escape(facts["title"]),
        status=facts["status"],
        verdict=escape(verdict(facts)),
        icon=ICONS[facts["status"]],
        problem=f'<p class="problem"><b>Configuration not used:</b> {escape(facts["config_problem"] or "")}</p>'
        if facts["config_problem"]
        else "",
        portals="".join(_card(number, portal) for number, portal in enumerate(facts["portals"])) or empty,
        interval=f"{facts['interval_seconds']:g}",
        milliseconds=int(max(1.0, facts["interval_seconds"]) * 1000),
        now=escape(facts["now"]),
        clock=datetime.fromisoformat(facts["now"]).strftime("%H:%M:%S UTC"),
    )


def _card(number: int, portal: dict[str, Any]) -> str:
    history = portal["history"]
    bars = "".join(f'<i class="{"up" if up else "down"}"></i>' for up in history)
    share = (
        f"{100 * sum(history) / len(history):.0f} % of the last {len(history)} probes" if history else "no probes yet"
    )
    latency = f"{portal['latency_ms']:g} ms" if portal["status"] == "up" else ""
    return CARD.substitute(
        number=number,
        status=portal["status"],
        word=WORDS[portal["status"]],
        name=escape(portal["name"]),
        url=escape(portal["url"]),
        detail=escape(" · ".join(part for part in (portal["detail"], latency, _since(portal["since"])) if part)),
        bars=bars,
        share=share,
    )


def _since(moment: str | None) -> str:
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"for {seconds // size:.0f} {unit}"
    return "for less than a minute"


class Answer(BaseHTTPRequestHandler):
    """The three pages."""

    server_version = "status-page"
    sys_version = ""
    timeout = 10  # a client that never finishes its request must not hold a thread for ever
    board: Board

    def do_GET(self) -> None:
        """Answer a request."""
        path = urllib.parse.urlsplit(self.path).path
        if path == "/":
            self._send(200, "text/html; charset=utf-8", render(self.board.facts()))
        elif path == "/api/status":
            self._send(200, "application/json", json.dumps(self.board.facts(), indent=2) + "\n")
        elif path == "/healthz":
            self._send(200, "text/plain; charset=utf-8", "ok\n")
        else:
            self._send(404, "text/plain; charset=utf-8", "There is /, /api/status and /healthz.\n")

    do_HEAD = do_GET

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: the page asks every few seconds."""


class Server(ThreadingHTTPServer):
    """Answers with one board."""

    daemon_threads = True
    server_bind = socketserver.TCPServer.server_bind  # HTTPServer's asks the resolver for a name nobody needs

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what a client did; a closed tab is not worth a traceback."""
        say(f"request of {client_address[0]}: {sys.exc_info()[1]!r}")


def say(text: str) -> None:
    """Write one line to the log."""
    print(datetime.now(UTC).isoformat(timespec="seconds"), text, flush=True)


def serve(board: Board) -> None:
    """Answer until SIGTERM; read the configuration again on SIGHUP or when it changes."""
    asked, ended = threading.Event(), threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: asked.set())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    host, port = board.settings.host, board.settings.port
    server = Server((host, port), type("BoardAnswer", (Answer,), {"board": board}))
    board.follow()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"status page at http://{host}:{port}/ with {len(board.settings.portals)} portals")
    while not ended.wait(0.25):  # looks at the file four times a second: a change shows at once
        was_asked = asked.is_set()
        asked.clear()
        board.reload(was_asked)
    server.shutdown()
    say("ended")


def main(argv: list[str]) -> int:
    """Start as the command line says."""
    parser = argparse.ArgumentParser(prog="status_page.py", description="Shows which portals are up.")
    parser.add_argument("--config", type=lambda value: Path(value).absolute(), required=True)
    parser.add_argument("--check", action="store_true", help="only say whether the configuration can be used")
    options = parser.parse_args(argv)
    board = Board(options.config)
    if not options.check:
        serve(board)
    return 0


STYLE = """
:root { color-scheme: light dark; --bg: #f4f6f8; --card: #fff; --ink: #17202a; --soft: #55626f; --line: #dfe5ea;
  --up: #14804a; --down: #b3261e; --checking: #75620a; --empty: #55626f; }
@media (prefers-color-scheme: dark) { :root { --bg: #10151b; --card: #19212a; --ink: #e8edf2; --soft: #a3b0bc;
  --line: #2a3540; --up: #4cc38a; --down: #ff8a80; --checking: #e3c34b; --empty: #a3b0bc; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main, header, footer { max-width: 44rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; } h1 { margin: 0 0 1rem; font-size: 1.1rem; font-weight: 600; color: var(--soft); }
#verdict { margin: 0; padding: 1.1rem 1.35rem; border-radius: .9rem; font-size: 1.5rem; font-weight: 650;
  background: var(--card); border: 1px solid var(--line); border-left: .5rem solid var(--now); }
.up { --now: var(--up); } .down { --now: var(--down); }
.checking { --now: var(--checking); } .empty { --now: var(--empty); }
ul { list-style: none; margin: 1.25rem 0; padding: 0; display: grid; gap: .75rem; }
li { background: var(--card); border: 1px solid var(--line); border-radius: .9rem; padding: 1rem 1.35rem; }
li h2 { margin: 0; font-size: 1.05rem; display: flex; gap: .75rem; align-items: baseline;
  justify-content: space-between; }
a { color: inherit; text-underline-offset: .2em; }
a:focus-visible { outline: 3px solid var(--up); outline-offset: 3px; }
.word { font-size: .85rem; font-weight: 650; color: var(--now); border: 1.5px solid; border-radius: 2rem;
  padding: .05rem .7rem; }
p.detail, footer { color: var(--soft); font-size: .9rem; } p.detail { margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
.bars { display: flex; gap: 3px; height: 1.5rem; }
.bars i { flex: 0 1 .6rem; border-radius: 2px; background: var(--now); } .bars i.down { height: 55%; align-self: end; }
.share { display: block; color: var(--soft); font-size: .8rem; margin-top: .3rem; }
.problem { border: 1.5px solid var(--down); border-radius: .9rem; padding: .8rem 1.35rem; overflow-wrap: anywhere; }
footer { padding-bottom: 2.5rem; }
"""

SCRIPT = """
const every = Number(document.body.dataset.every);
async function refresh() {
  if (document.hidden) return;
  const state = document.getElementById("state");
  try {
    const answer = await fetch("/", { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = document.activeElement && document.activeElement.id;
    for (const id of ["portals", "notes", "state"])
      document.getElementById(id).innerHTML = fresh.getElementById(id).innerHTML;
    const verdict = document.getElementById("verdict"), news = fresh.getElementById("verdict");
    if (verdict.textContent !== news.textContent) verdict.textContent = news.textContent;
    verdict.className = news.className;
    document.title = fresh.title;
    document.getElementById("icon").href = fresh.getElementById("icon").href;
    if (focused) document.getElementById(focused)?.focus();
  } catch { state.textContent = "This page cannot reach its server; what it shows may be old."; }
}
setInterval(refresh, every);
document.addEventListener("visibilitychange", refresh);
"""

CIRCLE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="4.5" cy="4.5" r="4" fill="{}"/></svg>'
COLORS = {"up": "#14804a", "down": "#b3261e", "checking": "#e3c34b", "empty": "#8a97a3"}
ICONS = {state: "data:image/svg+xml," + urllib.parse.quote(CIRCLE.format(color)) for state, color in COLORS.items()}

CARD = Template("""<li class="$status"><h2><a id="portal-$number" href="$url" rel="noreferrer">$name</a>
<span class="word">$word</span></h2><p class="detail">$detail</p>
<div class="bars" aria-hidden="true">$bars</div><span class="share">Up in $share</span></li>
""")

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$verdict · $title</title><link id="icon" rel="icon" href="$icon"><style>$style</style></head>
<body data-every="$milliseconds">
<header><h1>$title</h1><p id="verdict" class="$status" role="status">$verdict</p></header>
<main><div id="notes">$problem</div><ul id="portals">$portals</ul></main>
<footer><p id="state">Probed every $interval s; this page follows by itself.
Shown: <time datetime="$now">$clock</time>.</p>
<p><a href="/api/status">The same as JSON</a></p></footer>
<script>$script</script></body></html>
""")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# Only the style and script of this file run, whatever a portal's name says.
POLICY = (
    f"default-src 'none'; style-src {_source(STYLE)}; script-src {_source(SCRIPT)}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BadConfig as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"The status page cannot listen on its host and port: {error.strerror}.")
