"""Two little portals, so that there is something to watch: a home dashboard and a media library.

portal.py home-dashboard|media-library --config portals.json

{"home-dashboard": {"host": "127.0.0.1", "port": 8421},
 "media-library": {"host": "127.0.0.1", "port": 8422, "folder": "/srv/media"}}
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import socketserver
import sys
from collections.abc import Callable
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

Rows = list[tuple[str, str]]
LISTED_FILES = 500  # a page, not an archive


def home_rows(_: dict[str, Any]) -> Rows:
    """Say how the machine is."""
    disk = shutil.disk_usage("/")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        ("Machine", platform.node()),
        ("System", f"{platform.system()} {platform.release()}"),
        ("Load, 1, 5 and 15 minutes", f"{load} on {os.cpu_count()} cores"),
        ("Memory", _memory()),
        ("Disk", f"{_size(disk.free)} free of {_size(disk.total)}"),
    ]


def _memory() -> str:
    table = Path("/proc/meminfo")
    if not table.exists():  # not Linux
        return _size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    kib = {line.split(":")[0]: int(line.split()[1]) for line in table.read_text().splitlines()}
    return f"{_size(kib['MemAvailable'] * 1024)} free of {_size(kib['MemTotal'] * 1024)}"


def media_rows(settings: dict[str, Any]) -> Rows:
    """List the files of the media folder, the newest first."""
    folder = Path(settings["folder"])
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    newest = sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)[:LISTED_FILES]
    rows = [(str(path.relative_to(folder)), _size(path.stat().st_size)) for path in newest]
    return rows or [("Nothing yet", f"Files put into {folder} appear here.")]


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


PORTALS: dict[str, tuple[str, Callable[[dict[str, Any]], Rows]]] = {
    "home-dashboard": ("Home dashboard", home_rows),
    "media-library": ("Media library", media_rows),
}

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; --bg: #f4f6f8; --ink: #17202a; --soft: #55626f; --line: #dfe5ea; }
@media (prefers-color-scheme: dark) { :root { --bg: #10151b; --ink: #e8edf2; --soft: #a3b0bc; --line: #2a3540; } }
body { margin: 0 auto; max-width: 40rem; padding: 2.5rem 1.25rem; background: var(--bg); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 2rem; }
dt, dd { margin: 0; padding: .6rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
dt { color: var(--soft); }
</style></head><body><main><h1>$title</h1><dl>$rows</dl></main></body></html>
""")


def answering(name: str, settings: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    """Return what answers the requests of one portal."""
    title, rows = PORTALS[name]

    class Answer(BaseHTTPRequestHandler):
        timeout = 10  # a client that never finishes its request must not hold a thread for ever

        def do_GET(self) -> None:
            found = self.path.split("?")[0] == "/"
            lines = "".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in rows(settings) if found)
            body = PAGE.substitute(title=title if found else "Not found", rows=lines).encode(errors="replace")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Log no requests: the status page asks every few seconds."""

    return Answer


class Server(ThreadingHTTPServer):
    """Serves one portal."""

    daemon_threads = True
    server_bind = socketserver.TCPServer.server_bind  # HTTPServer's asks the resolver for a name nobody needs


def main(argv: list[str]) -> int:
    """Start as the command line says."""
    parser = argparse.ArgumentParser(prog="portal.py")
    parser.add_argument("name", choices=sorted(PORTALS))
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(argv)
    settings = json.loads(options.config.read_text())[options.name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server((settings["host"], settings["port"]), answering(options.name, settings)).serve_forever()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"The portal cannot start: {error.strerror}.")
