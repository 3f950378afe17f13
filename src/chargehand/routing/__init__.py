"""Which agent runs a task, and why. Pure: facts in, a decision with its reasons out."""
