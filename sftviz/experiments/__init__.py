"""What takes seconds or minutes: small models and a task for them, training, several ranks.

May import: `sftviz`, `torch`. May be imported by: `views`, `exercises`, `predictions`, `hunt`,
`explorers`.
"""

from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.experiments.ranks import run_ranks
from sftviz.experiments.training import Trainer
from sftviz.experiments.transformer import TinyTransformer

__all__ = ["BigramModel", "TinyTransformer", "Trainer", "make_window", "run_ranks"]
