"""Results of earlier sessions that stand for a run: what is reused, and what has to run."""

from bob.reuse.lookup import Earlier
from bob.reuse.standing import Lookup, Standing, State, nothing_earlier

__all__ = ["Earlier", "Lookup", "Standing", "State", "nothing_earlier"]
