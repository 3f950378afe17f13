"""Backup and restore of one installation: everything in the database, and the key that it is signed with, in one file.

The file is a tar of at most three members: `manifest.json`, `database.dump` (pg_dump's custom format) and `master.key`.
"""
