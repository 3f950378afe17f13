"""The terminal: lines, screen, keys, interrupts, log file, exit codes."""
