"""Programs in the background without systemd: one pidfile, one log, one port, one instance each.

    background.py port --pidfile P --address 127.0.0.1:8420 --service "the page" --variable status_page_port
    background.py run --pidfile P --address 127.0.0.1:8420 --log L [--patience SECONDS] -- PROGRAM ARGUMENT...
    background.py status|stop|reload --pidfile P [--dry-run]

`port` prints one line when another program has the port, else nothing; `status` prints "running" or "stopped".
`run` returns when the program listens. `run`, `stop` and `reload` exit 3 when there was nothing to do.

The lock on the pidfile, not its content, says whether a program runs: it inherits the lock, and the kernel drops it
with the last process that holds it, however that one ends.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import pwd
import signal
import socket
import sys
import time
from pathlib import Path

NOTHING_TO_DO = 3
STOP_SECONDS = 15.0  # a service that has not ended by then is killed; Kuma, which closes its database, needs about four
LISTENING = "0A"  # the state column of /proc/net/tcp


class Refused(Exception):
    """The service cannot start; the message says why and what to do."""


class Pidfile:
    """The claim of one running service: line 1 its process, line 2 its address."""

    def __init__(self, path: Path) -> None:
        """Name the claim; nothing is opened yet."""
        self.path = path
        self.fd = -1

    def claim(self) -> bool:
        """Return whether the lock is ours now; so it stays until every process that inherited it has ended."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self.fd)
                return False
            if self._is_still_the_file():
                return True
            os.close(self.fd)  # `stop` removed it between our open and our lock

    def held(self) -> bool:
        """Return whether a running process has the claim."""
        if not self.path.exists():
            return False
        if not self.claim():
            return True
        os.close(self.fd)
        return False

    def write(self, pid: int, address: str) -> None:
        """Say who holds the claim."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{pid}\n{address}\n".encode(), 0)

    def read(self) -> tuple[int, str]:
        """Return process and address; (0, "") when the file says nothing."""
        lines = self.path.read_text().split("\n") if self.path.exists() else []
        return (int(lines[0]), lines[1]) if len(lines) > 1 and lines[0].isdigit() else (0, "")

    def _is_still_the_file(self) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except FileNotFoundError:
            return False


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def check_port(host: str, port: int, service: str, variable: str) -> None:
    """Raise Refused when a service could not listen there, saying who has the port and what changes it."""
    other = f"choose another port: {variable}=NUMBER" if variable else "choose another port"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                problem = f"{service} cannot listen on {host}:{port} ({error.strerror})"
                raise Refused(f"{problem}. Check the address, or {other}.") from error
            problem = f"Port {port} on {host} is used by {user_of(port)}, so {service} cannot listen there"
            raise Refused(f"{problem}. End that program, or {other}.") from error


def user_of(port: int) -> str:
    """Name the program that listens on a port, as far as we may see it; never its arguments, which may hold secrets."""
    owners = dict(_listeners(port))
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            links = {os.readlink(fd) for fd in (comm.parent / "fd").iterdir()}
        except OSError:  # another user's, or ended just now
            continue
        if links & owners.keys():
            return f"{comm.read_text().strip()} (process {comm.parent.name})"
    names = {pwd.getpwuid(uid).pw_name for uid in owners.values()}
    return f"a program of user {', '.join(names)}" if names else "another program"


def _listeners(port: int) -> list[tuple[str, int]]:
    """List (what /proc/PID/fd calls the socket, its user's id) of every socket that listens on a port."""
    found = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            columns = line.split()
            if columns[3] == LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                found.append((f"socket:[{columns[9]}]", int(columns[7])))
    return found


def port_problem(pidfile: Pidfile, address: str, service: str, variable: str) -> str:
    """Return why a service could not listen there, or "" when it could, or does already."""
    if pidfile.held() and pidfile.read()[1] == address:
        return ""
    try:
        check_port(*split_address(address), service, variable)
    except Refused as refusal:
        return str(refusal)
    return ""


def run(pidfile: Pidfile, log: Path, address: str, argv: list[str], patience: float) -> bool:
    """Start a program and wait until it listens; False when it runs already. Raises Refused with what its log says."""
    if not pidfile.claim():
        return False
    check_port(*split_address(address), argv[0], "")
    log.parent.mkdir(parents=True, exist_ok=True)
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if child := os.fork():
        os.close(pidfile.fd)
        os.waitpid(child, 0)
        _await_listening(pidfile, address, log, patience)
        return True
    os.setsid()
    if program := os.fork():  # a second time, so that the program can never get a terminal
        pidfile.write(program, address)
        os._exit(0)
    _become(argv, pidfile.fd, log_fd)
    return True


def _become(argv: list[str], lock_fd: int, log_fd: int) -> None:
    """Turn into a program that holds nothing of whoever started it but the lock."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, target)
    _leave_only({0, 1, 2, lock_fd})
    os.set_inheritable(lock_fd, True)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _await_listening(pidfile: Pidfile, address: str, log: Path, patience: float) -> None:
    end = time.monotonic() + patience
    while not _listens(address):
        if not pidfile.held():
            raise Refused(f"It ended at once. Its log {log} ends with: {_tail(log)}")
        if time.monotonic() > end:
            raise Refused(
                f"It runs but does not listen on {address} after {patience:g} s. {log} ends with: {_tail(log)}"
            )
        time.sleep(0.03)


def _listens(address: str) -> bool:
    try:
        socket.create_connection(split_address(address), timeout=1).close()
    except OSError:
        return False
    return True


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").split("\n")[-4:]).strip(" /")


def _leave_only(keep: set[int]) -> None:
    for fd in {int(name) for name in os.listdir("/dev/fd")} - keep:
        try:
            os.close(fd)
        except OSError:  # the one that listed the directory
            continue


def stop(pidfile: Pidfile, dry_run: bool = False) -> bool:
    """End a service and whatever it started; return whether there was one."""
    if not pidfile.held():
        return False
    if not dry_run:
        for number in (signal.SIGTERM, signal.SIGKILL):
            _signal_group(pidfile.read()[0], number)
            if _released(pidfile, STOP_SECONDS):
                pidfile.path.unlink(missing_ok=True)
                return True
        raise Refused(f"process {pidfile.read()[0]} does not end")
    return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    if not pid:  # it has the lock but has not written its process yet
        return
    try:
        os.killpg(os.getpgid(pid), number)  # `run` gave the program a process group of its own
    except ProcessLookupError:
        return


def _released(pidfile: Pidfile, patience: float) -> bool:
    end = time.monotonic() + patience
    while pidfile.held():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def reload(pidfile: Pidfile, dry_run: bool = False) -> bool:
    """Ask a service to read its configuration again; return whether it runs."""
    if not pidfile.held():
        return False
    if not dry_run:
        os.kill(pidfile.read()[0], signal.SIGHUP)
    return True


def main(argv: list[str]) -> int:
    """Do one of the things the first lines of this file list."""
    options, program = _options(argv)
    pidfile = Pidfile(options.pidfile)
    if options.verb == "port":
        print(port_problem(pidfile, options.address, options.service, options.variable), end="")
        return 0
    if options.verb == "status":
        print("running" if pidfile.held() else "stopped", end="")
        return 0
    if options.verb == "run":
        done = run(pidfile, options.log, options.address, program, options.patience)
    else:
        done = {"stop": stop, "reload": reload}[options.verb](pidfile, options.dry_run)
    print(f"{options.verb}: {'done' if done else 'nothing to do'}")
    return 0 if done else NOTHING_TO_DO


def _options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    own, _, program = "\0".join(argv).partition("\0--\0")
    parser = argparse.ArgumentParser(prog="background.py")
    parser.add_argument("verb", choices=("port", "status", "run", "stop", "reload"))
    parser.add_argument("--pidfile", type=lambda value: Path(value).absolute(), required=True)
    parser.add_argument("--log", type=lambda value: Path(value).absolute())
    parser.add_argument("--address")
    parser.add_argument("--service", default="this service")
    parser.add_argument("--variable", default="")
    parser.add_argument("--patience", type=float, default=20.0)
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args(own.split("\0")), program.split("\0")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as refused:
        sys.exit(str(refused))
