"""What several commands do: follow a request, show a plan and ask, explain."""
