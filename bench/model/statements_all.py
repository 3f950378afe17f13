"""Every named statement that has a model: importing the files registers theirs."""

from bench.model import statements, statements_agents, statements_chain, statements_deciding, statements_learning

MODELLED = statements.MODELLED
PARTS = (statements, statements_agents, statements_chain, statements_deciding, statements_learning)
