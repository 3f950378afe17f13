"""The whole product in one process on simulated time: every crash, delay and cut is drawn from a seed, and replays.

Engine, loops, sweep, recorder, agents, journal and broker are the real ones. Modelled are the event loop (`loop.py`),
the database (`database.py`, `statements*.py`: the named statements, row locks and transactions) and the wires
(`wires.py`). `promises.py` says what must hold after every commit, every start of work, and at the end.
"""
