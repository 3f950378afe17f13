"""Chargehand hands out infrastructure work, described in words, to agents, and answers for it."""

__version__ = "0.1.0"
