"""Every named statement that has a model: importing the files registers theirs."""

from chargehand.simulation import statements, statements_agents, statements_deciding

MODELLED = statements.MODELLED
PARTS = (statements, statements_agents, statements_deciding)
