"""What the exit code of a command says. docs/cli.md has the same table."""

from __future__ import annotations

from chargehand.domain.states import RequestStatus as R

DONE = 0
FAILED = 1  # the work failed, or ended without being done
BAD_INPUT = 2  # words, options or ids that cannot be used
WAITS = 3  # a person must answer, approve or look
REFUSED = 4  # no agent here can do it
ENVIRONMENT = 5  # database, disk, configuration
AUDIT_BROKEN = 6
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

OF_REQUEST = {
    R.COMPLETED: DONE,
    R.FAILED: FAILED,
    R.CANCELLED: FAILED,
    R.REJECTED: FAILED,
    R.EXPIRED: FAILED,
    R.REFUSED: REFUSED,
}


def exit_of(status: R) -> int:
    """Return the exit code for a request that is left in this status."""
    return OF_REQUEST.get(status, WAITS)
