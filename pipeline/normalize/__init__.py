"""The steps that normalize, and chains of them.

Not here: the statistics that steps are fitted to (`pipeline.statistics`).
"""

from pipeline.normalize.cast import default_output_dtype
from pipeline.normalize.chain import FittedChain, bind_chain, run_steps
from pipeline.normalize.parse import parse_chain, parse_step
from pipeline.normalize.registry import STEPS
from pipeline.normalize.step import FittedStep, Indexer, Input, Parameters, Step

__all__ = [
    "STEPS",
    "FittedChain",
    "FittedStep",
    "Indexer",
    "Input",
    "Parameters",
    "Step",
    "bind_chain",
    "default_output_dtype",
    "parse_chain",
    "parse_step",
    "run_steps",
]
