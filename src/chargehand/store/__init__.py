"""PostgreSQL: the truth about every request, task and attempt."""
