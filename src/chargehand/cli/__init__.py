"""The command line. `main` is its entry; `app` in `chargehand.cli.app` is all of its commands."""

from chargehand.cli.entry import main

__all__ = ["main"]
