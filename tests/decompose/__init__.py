"""Requests with the decomposition they should get, and how an answer is scored against it."""
