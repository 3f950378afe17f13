"""Decomposition with no key and no model: a request is cut into clauses, each is matched with the catalog.

It plans what it is sure of and asks about the rest. Not imported at start-up: it brings NumPy, and scikit-learn when
it trains.
"""

from chargehand.llm.catalogue_match.tier import AFTER_AN_LLM, ALONE, CatalogueMatch

__all__ = ["AFTER_AN_LLM", "ALONE", "CatalogueMatch"]
