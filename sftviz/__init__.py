"""See, touch and check every number of one SFT training step.

`sft_microbatch_train_step` is the step; `trace_step` runs it and keeps every intermediate; the
views draw a trace; `StepExplorer` makes the drawing one that can be touched.
"""

from importlib import import_module

from sftviz.accumulation import (
    SCALINGS,
    SLIPS,
    BigramModel,
    accumulate,
    full_batch_gradient,
    make_window,
)
from sftviz.accumulation_view import accumulation_flow, scaling_table
from sftviz.batch import Batch, load_batch
from sftviz.drawing import Drawing
from sftviz.examples import FIVE_WORDS, WORKED_EXAMPLE
from sftviz.log_probs import (
    TokenBatch,
    build_token_batch,
    compute_entropy,
    get_response_log_probs,
)
from sftviz.logits import LogitsBatch, LogitsTrace, trace_logits
from sftviz.logits_view import logits_flow
from sftviz.stages import Stage, tell
from sftviz.step import StepTrace, masked_normalize, sft_microbatch_train_step, trace_step
from sftviz.token_view import shift_view
from sftviz.views import gradient_formula, gradient_table, key_formula, step_flow, token_table

# Widgets are loaded on first use: a script that only trains or draws never pays for them.
_LAZY = {
    "AccumulationExplorer": "sftviz.explorers.accumulation_explorer",
    "LogitsExplorer": "sftviz.explorers.logits_explorer",
    "StepExplorer": "sftviz.explorers.step_explorer",
}

__all__ = [
    "FIVE_WORDS",
    "SCALINGS",
    "SLIPS",
    "WORKED_EXAMPLE",
    "AccumulationExplorer",
    "Batch",
    "BigramModel",
    "Drawing",
    "LogitsBatch",
    "LogitsExplorer",
    "LogitsTrace",
    "Stage",
    "StepExplorer",
    "StepTrace",
    "TokenBatch",
    "accumulate",
    "accumulation_flow",
    "build_token_batch",
    "compute_entropy",
    "full_batch_gradient",
    "get_response_log_probs",
    "gradient_formula",
    "gradient_table",
    "key_formula",
    "load_batch",
    "logits_flow",
    "make_window",
    "masked_normalize",
    "scaling_table",
    "sft_microbatch_train_step",
    "shift_view",
    "step_flow",
    "tell",
    "token_table",
    "trace_logits",
    "trace_step",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sftviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
