"""Typed values to lines: what each command shows. Pure, so that tests can read it without a database or a terminal."""
