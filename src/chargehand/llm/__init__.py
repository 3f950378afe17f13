"""Tiers that can be asked to decompose a request."""
