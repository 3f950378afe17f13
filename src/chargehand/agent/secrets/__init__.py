"""Secrets on the agent: looked up at run time, hidden in whatever leaves it."""
