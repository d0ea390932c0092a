"""See, touch and check every number of one SFT training step.

`sft_microbatch_train_step` is the step; `trace_step` runs it and keeps every intermediate; the
views draw a trace; `StepExplorer` makes the drawing live.

This package names what you call with your own tensors, what these calls take and return, and
examples to try them on. Everything else is imported from its module.

The modules beside this file are the subject: the step and what it works on. May import: `torch`,
`numpy`. May be imported by: `views`, `explorers`, `experiments`, `inspection`, `mistakes`,
`exercises`, `predictions`, `hunt`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sftviz.accumulation import AccumulationTrace, MicrobatchRecord, accumulate, full_batch_gradient
from sftviz.drawing.drawing import Drawing
from sftviz.examples import FIVE_WORDS, PRESETS, WORKED_EXAMPLE
from sftviz.files import load_inputs
from sftviz.inputs import StepInputs
from sftviz.log_probs import compute_entropy, get_response_log_probs
from sftviz.logits import LogitsInputs, LogitsTrace, trace_logits
from sftviz.rules import MISTAKEN_SCALINGS, SCALINGS, Scaling
from sftviz.shares import GradientShares, gradient_shares
from sftviz.step import StepTrace, masked_normalize, sft_microbatch_train_step, trace_step
from sftviz.token_texts import token_texts
from sftviz.tokens import TokenBatch, build_token_batch, mask_labels
from sftviz.views.accumulation import accumulation_flow, scaling_table
from sftviz.views.logits import logits_flow
from sftviz.views.shares import shares_table
from sftviz.views.stages import Stage, explain_step
from sftviz.views.step import gradient_formula, gradient_table, key_formula, step_flow, token_table
from sftviz.views.tokens import shift_view

if TYPE_CHECKING:  # see _LAZY
    from sftviz.equivalence import Equivalence, gradient_equivalence
    from sftviz.exercises.accumulation import check_accumulation
    from sftviz.exercises.course import check_exercise
    from sftviz.exercises.log_probs import check_log_probs
    from sftviz.exercises.step import check_step
    from sftviz.exercises.verdict import Verdict
    from sftviz.explorers.accumulation import AccumulationExplorer
    from sftviz.explorers.beliefs import Beliefs
    from sftviz.explorers.directions import DivisorExplorer
    from sftviz.explorers.impostors import ImpostorsExplorer
    from sftviz.explorers.inspection import InspectionExplorer
    from sftviz.explorers.logits import LogitsExplorer
    from sftviz.explorers.losses import LossesExplorer
    from sftviz.explorers.masking import MaskExplorer
    from sftviz.explorers.order import PutInOrder
    from sftviz.explorers.practice import Practice
    from sftviz.explorers.prediction import Prediction
    from sftviz.explorers.ranks import RanksExplorer
    from sftviz.explorers.step import StepExplorer
    from sftviz.explorers.training import TrainingPanel
    from sftviz.inspection.checks.finding import Finding
    from sftviz.inspection.inspection import Inspection, inspect_batch
    from sftviz.mistakes import (
        MISTAKES,
        STEP_TESTS,
        Mistake,
        Recognition,
        StepTest,
        Survivors,
        recognise,
        write_test,
    )
    from sftviz.views.impostors import impostor_wall

__version__ = "0.1.0"

# Loaded on first use: a script that only trains or draws needs none of it.
_LAZY = {
    "MISTAKES": "sftviz.mistakes",
    "STEP_TESTS": "sftviz.mistakes",
    "AccumulationExplorer": "sftviz.explorers.accumulation",
    "Beliefs": "sftviz.explorers.beliefs",
    "DivisorExplorer": "sftviz.explorers.directions",
    "Equivalence": "sftviz.equivalence",
    "Finding": "sftviz.inspection.checks.finding",
    "ImpostorsExplorer": "sftviz.explorers.impostors",
    "Inspection": "sftviz.inspection.inspection",
    "InspectionExplorer": "sftviz.explorers.inspection",
    "LogitsExplorer": "sftviz.explorers.logits",
    "LossesExplorer": "sftviz.explorers.losses",
    "MaskExplorer": "sftviz.explorers.masking",
    "Mistake": "sftviz.mistakes",
    "Practice": "sftviz.explorers.practice",
    "Prediction": "sftviz.explorers.prediction",
    "PutInOrder": "sftviz.explorers.order",
    "RanksExplorer": "sftviz.explorers.ranks",
    "Recognition": "sftviz.mistakes",
    "StepExplorer": "sftviz.explorers.step",
    "StepTest": "sftviz.mistakes",
    "Survivors": "sftviz.mistakes",
    "TrainingPanel": "sftviz.explorers.training",
    "Verdict": "sftviz.exercises.verdict",
    "check_accumulation": "sftviz.exercises.accumulation",
    "check_exercise": "sftviz.exercises.course",
    "check_log_probs": "sftviz.exercises.log_probs",
    "check_step": "sftviz.exercises.step",
    "gradient_equivalence": "sftviz.equivalence",
    "impostor_wall": "sftviz.views.impostors",
    "inspect_batch": "sftviz.inspection.inspection",
    "recognise": "sftviz.mistakes",
    "write_test": "sftviz.mistakes",
}

# fmt: off
__all__ = [
    "FIVE_WORDS", "MISTAKEN_SCALINGS", "MISTAKES", "PRESETS", "SCALINGS", "STEP_TESTS",
    "WORKED_EXAMPLE", "AccumulationExplorer", "AccumulationTrace", "Beliefs",
    "DivisorExplorer", "Drawing", "Equivalence", "Finding", "GradientShares",
    "ImpostorsExplorer", "Inspection", "InspectionExplorer", "LogitsExplorer",
    "LogitsInputs", "LogitsTrace", "LossesExplorer", "MaskExplorer", "MicrobatchRecord",
    "Mistake", "Practice", "Prediction", "PutInOrder", "RanksExplorer", "Recognition",
    "Scaling", "Stage", "StepExplorer", "StepInputs", "StepTest", "StepTrace", "Survivors",
    "TokenBatch", "TrainingPanel", "Verdict", "accumulate", "accumulation_flow",
    "build_token_batch", "check_accumulation", "check_exercise", "check_log_probs",
    "check_step", "compute_entropy", "explain_step", "full_batch_gradient",
    "get_response_log_probs", "gradient_equivalence", "gradient_formula", "gradient_shares",
    "gradient_table", "impostor_wall", "inspect_batch", "key_formula", "load_inputs",
    "logits_flow", "mask_labels", "masked_normalize", "recognise", "scaling_table",
    "sft_microbatch_train_step", "shares_table", "shift_view", "step_flow", "token_table",
    "token_texts", "trace_logits", "trace_step", "write_test",
]
# fmt: on


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sftviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
