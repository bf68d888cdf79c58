"""Summaries of a pass: the same bits however its blocks are cut, along the features too."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.block import Tiling
from pipeline.executor import SerialExecutor
from pipeline.gather import EVERYTHING, Gather, gather
from pipeline.normalize.chain import FittedChain
from pipeline.source.memory import MemorySource
from pipeline.statistics.float_histogram import FloatHistogram, entries_at_most


@pytest.mark.parametrize("step", [(700, 4096), (3000, 1000), (1100, 1500)])
def test_more_values_than_buckets_in_blocks_of_some_features(step: tuple[int, int]) -> None:
    values = np.random.default_rng(5).normal(8, size=(3000, 4096)).astype(np.float32)
    source = MemorySource(values, ("cell", "gene"))
    chain = FittedChain((), source.dims, "cell", source.dtype, np.dtype("float64"))
    task = Gather(source, chain, ("moments", "float_histogram"), ("gene",))
    found, whole = (
        gather(task, Tiling.regular(values.shape, blocks), SerialExecutor(), lambda _: None)[EVERYTHING]
        for blocks in (step, values.shape)
    )
    buckets = whole["float_histogram"]
    assert isinstance(buckets, FloatHistogram)
    assert np.diff(buckets.ends).max() <= entries_at_most(4096) < len(values)
    for name, summary in whole.items():
        for key, array in summary.arrays().items():
            assert found[name].arrays()[key].tobytes() == array.tobytes()
