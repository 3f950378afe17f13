"""Programs that an attempt starts, and how they are ended with it."""
