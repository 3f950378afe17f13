"""Puts the parts together; every door (command line, API, pages) asks here."""
