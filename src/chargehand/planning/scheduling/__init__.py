"""In which order tasks run: schedules, bounds and searches. Pure."""
