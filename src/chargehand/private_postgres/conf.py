"""The server's settings, as text. What is not here keeps PostgreSQL's default; fsync stays on."""

from __future__ import annotations

from pathlib import Path

SETTINGS = {
    "listen_addresses": "''",  # no TCP: the socket's directory is the access control
    "unix_socket_permissions": "0700",
    "max_connections": "100",  # ten processes with a pool of ten
    "shared_buffers": "32MB",  # a year of one machine's requests; the kernel caches the rest
    "max_parallel_workers_per_gather": "0",  # short statements: starting a worker costs more than it saves
    "max_logical_replication_workers": "0",  # nobody replicates it; one process less
    "jit": "off",  # the same
    "client_connection_check_interval": "'5s'",  # a client that was killed lets go of its locks within this
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    # At most a week of logs: the weekday's file is overwritten.
    "logging_collector": "on",
    "log_directory": "'../../log'",
    "log_filename": "'postgres-%a.log'",
    "log_rotation_age": "'1d'",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_line_prefix": "'%m [%p] %e '",
    "log_checkpoints": "off",
    # What people wrote in their requests does not belong in a log: no statements, no DETAIL with the values of a row.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
SINCE_18 = {"io_method": "sync"}  # the default keeps three more processes for reading ahead in large scans

INCLUDE = "include = '../../chargehand.conf'  # rewritten at each start; use ALTER SYSTEM to override\n"
ACCESS = "local all all trust  # only its owner (and root) can enter the socket's directory\n"
"""No password and no map of names: a user number of the server's own has no name that `peer` could look up."""


def render(socket_dir: Path, major: int) -> str:
    """Return the text of chargehand.conf. `socket_dir` needs no quoting: `places.fits` saw to it."""
    settings = SETTINGS | (SINCE_18 if major >= 18 else {})
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join([*lines, f"unix_socket_directories = '{socket_dir}'", ""])


def initdb_options(major: int) -> list[str]:
    """Return initdb's options. The locale is the one that exists everywhere, with Unicode's letters where possible."""
    unicode = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    return ["--encoding=UTF8", "--locale=C", *unicode, "--auth=trust", "--data-checksums", "--no-instructions"]
