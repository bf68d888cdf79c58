"""A chain for each group of samples: every sample goes through its own, whatever comes with it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError, InputMismatchError
from pipeline.normalize import grouped
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import UNSEEN, GroupedChain, rows_by_code
from pipeline.normalize.standard import ZScore
from pipeline.normalize.unit_norm import UnitNorm
from pipeline.room import Room

DIMS = ("cell", "y", "gene")
VALUES = np.random.default_rng(2).normal(3.0, 5.0, (40, 3, 4))
VALUES[5, 1, 2] = np.nan
CODES = np.random.default_rng(3).integers(UNSEEN, 3, 40).astype(np.int32)


def _chain(seed: int, output_dtype: str = "float32") -> FittedChain:
    generator = np.random.default_rng(seed)
    parameters = {"mean": generator.normal(size=4), "std": generator.uniform(1, 2, 4)}
    steps = (ZScore(per=("gene",)).restore(parameters), UnitNorm(dims=("y",)).fit(None))
    return FittedChain(steps, DIMS, "cell", np.dtype("float64"), np.dtype(output_dtype))


OVERALL, CHAINS = _chain(0), tuple(_chain(seed) for seed in (1, 2, 3))


def _expected(code: int, sample: np.ndarray, unseen: str) -> np.ndarray:
    if code == UNSEEN and unseen == "nan":
        return np.full(sample.shape, np.nan, np.float32)
    return (OVERALL if code == UNSEEN else CHAINS[code])(sample[np.newaxis])[0]


@pytest.mark.parametrize("unseen", ["global", "nan"])
@settings(derandomize=True, max_examples=60, database=None, deadline=None)
@given(picked=st.lists(st.integers(0, 39), max_size=60), dims=st.permutations(DIMS))
def test_a_sample_gives_the_bits_of_its_own_chain_in_any_company(unseen, picked, dims):
    chain = GroupedChain(OVERALL, CHAINS, CODES[picked], unseen)
    axes = [DIMS.index(dim) for dim in dims]
    result = chain(VALUES[picked].transpose(axes), tuple(dims)).transpose(np.argsort(axes))
    assert result.shape == (len(picked), 3, 4) and result.dtype == np.float32
    for place, sample in enumerate(picked):
        expected = _expected(int(CODES[sample]), VALUES[sample], unseen)
        assert np.ascontiguousarray(result[place]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("batch_bytes", [1, 100, 1000])
def test_batches_of_any_size_give_the_same_bits(batch_bytes, monkeypatch):
    for codes in (CODES, np.sort(CODES)):
        whole = GroupedChain(OVERALL, CHAINS, codes, "nan")(VALUES)
        with monkeypatch.context() as patch:
            patch.setattr(grouped, "BATCH_BYTES", batch_bytes)
            assert GroupedChain(OVERALL, CHAINS, codes, "nan")(VALUES).tobytes() == whole.tobytes()


@pytest.mark.parametrize("arranged", [np.array, np.sort])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("unseen", ["global", "nan"])
def test_a_block_takes_its_output_and_a_few_batches(arranged, groups, unseen):
    codes = arranged(np.random.default_rng(4).integers(UNSEEN, groups - 1, 9000).astype(np.int32))
    values = np.ones((9000, 300, 4), np.float32)
    chains = tuple(replace(chain, steps=chain.steps[:1]) for chain in (OVERALL, *CHAINS))
    chain = GroupedChain(chains[0], chains[1:], codes, unseen)
    tracemalloc.start()
    try:
        output = chain(values, DIMS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert output.nbytes == values.nbytes > 40 * 2**20
    assert peak < output.nbytes + 4 * grouped.BATCH_BYTES


@pytest.mark.parametrize("codes", [[1] * 6, [0, 1, 1, 0, 1, 0]], ids=["one group", "two groups"])
def test_the_result_lies_in_the_room_that_is_given(codes):
    values, room = VALUES[:6], Room()
    chain = GroupedChain(OVERALL, CHAINS, np.array(codes, np.int32), "global")
    result = chain(values, room=room)
    np.testing.assert_array_equal(result, chain(values))
    assert np.shares_memory(result, room.array(result.shape, result.dtype))


def test_all_samples_of_no_group_are_counted():
    values = np.ones((9000, 300, 4), np.float32)
    for codes in (np.full(9000, UNSEEN, np.int32), np.r_[np.full(8999, UNSEEN), 0].astype(np.int32)):
        with pytest.raises(InputMismatchError, match="samples of no group") as caught:
            GroupedChain(OVERALL, CHAINS, codes)(values)
        assert caught.value.found == f"{(codes == UNSEEN).sum()} samples"


def test_selecting_samples_and_features_is_selecting_of_the_result():
    chain = GroupedChain(OVERALL, CHAINS, CODES, "global")
    whole = chain(VALUES)
    genes, cells = np.array([3, 0, 1]), slice(7, 31)
    part = chain.select({"gene": genes, "cell": cells})(VALUES[cells][:, :, genes])
    assert part.tobytes() == np.ascontiguousarray(whole[cells][:, :, genes]).tobytes()
    again = chain.select({"gene": genes}).select({"gene": slice(1, 2), "cell": np.array([39, 2])})
    assert again(VALUES[[39, 2]][:, :, [0]]).tobytes() == np.ascontiguousarray(whole[[39, 2]][:, :, [0]]).tobytes()


def test_the_inverse_goes_through_the_same_chains():
    steps = [chain.steps[:1] for chain in (OVERALL, *CHAINS)]
    overall, *chains = (FittedChain(each, DIMS, "cell", np.dtype("float64"), np.dtype("float64")) for each in steps)
    chain = GroupedChain(overall, tuple(chains), CODES, "global")
    np.testing.assert_allclose(chain.inverse(chain(VALUES)), VALUES, rtol=1e-13, atol=1e-13)
    assert not np.array_equal(overall.inverse(chain(VALUES)), VALUES)


def test_one_code_is_that_of_every_sample():
    chain = GroupedChain(OVERALL, CHAINS, np.array(2, np.int32))
    assert chain(VALUES).tobytes() == CHAINS[2](VALUES).tobytes()
    assert chain.select({"cell": slice(3, 5)})(VALUES[3:5]).tobytes() == CHAINS[2](VALUES[3:5]).tobytes()


def test_integers_have_no_nan_for_the_unseen():
    chains = tuple(_chain(seed, "int16") for seed in (1, 2, 3))
    with pytest.raises(DataError, match="int16 cannot hold"):
        GroupedChain(_chain(0, "int16"), chains, np.array([UNSEEN], np.int32), "nan")(VALUES[:1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputMismatchError, match="number of samples"):
        GroupedChain(OVERALL, CHAINS, CODES, "global")(VALUES[:10])
    with pytest.raises(InputMismatchError, match="no group"):
        GroupedChain(OVERALL, CHAINS, np.array([0, UNSEEN], np.int32))(VALUES[:2])
    with pytest.raises(InputMismatchError, match="another size"):
        GroupedChain(OVERALL, CHAINS, np.zeros(0, np.int32))(VALUES[:0, :, :3])


def test_rows_are_slices_where_they_are_neighbours():
    found = dict(rows_by_code(np.array([4, 4, 1, -1, 1], np.int32)))
    assert list(found) == [-1, 1, 4]
    assert found[-1] == slice(3, 4) and found[4] == slice(0, 2)
    assert found[1].tolist() == [2, 4]
    assert list(rows_by_code(np.zeros(0, np.int32))) == []
