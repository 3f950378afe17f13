"""What runs an agent: its connection, attempts, lease, journal and health."""
