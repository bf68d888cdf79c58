"""Law 2 for NumPy: any subset, layout and byte order gives the bytes of the stored output; what does not fit is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import Manifest
from pipeline.errors import DataError, InputMismatchError, NotInvertibleError
from tests.inference.cases import CHAINS, DIMS, GENES, Case, make_case
from tests.manifest.fitting import fit_record

DRAWN = {name: make_case(name) for name in ("log1p then zscore per gene", "zscore per gene then unit_norm", "minmax")}


@pytest.fixture(params=CHAINS)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


@pytest.fixture
def cases() -> dict[str, Case]:
    return {name: make_case(name) for name in CHAINS}


def test_every_sample_alone_gives_its_part_of_the_output(case):
    for index in range(len(case.data)):
        alone = case.manifest.transform(case.data[index])
        batch = case.manifest.transform(case.data[index : index + 1])
        assert alone.shape == case.output.shape[1:] and batch.shape == (1, *case.output.shape[1:])
        assert alone.tobytes() == batch.tobytes() == case.output[index].tobytes()
        assert alone.dtype == batch.dtype == case.output.dtype


def test_layout_and_byte_order_do_not_matter(case):
    before = case.data.tobytes()
    wide = np.zeros((46, 3, 10), case.data.dtype)
    wide[::2, :, 1::2] = case.data
    forms = [
        np.asfortranarray(case.data),
        case.data.byteswap().view(case.data.dtype.newbyteorder()),
        wide[::2, :, 1::2],
        case.data[::-1][::-1],
        np.frombuffer(b"\0" + case.data.tobytes(), np.uint8)[1:].view(case.data.dtype).reshape(case.data.shape),
    ]
    for form in forms:
        result = case.manifest.transform(form)
        assert result.tobytes() == case.output.tobytes() and result.shape == case.output.shape
    assert case.data.tobytes() == before


def test_a_read_only_input_is_fine_and_the_result_is_its_own(case):
    frozen = case.data.copy()
    frozen.flags.writeable = False
    result = case.manifest.transform(frozen)
    assert result.flags.writeable and not np.shares_memory(result, frozen)


@settings(derandomize=True, max_examples=60, database=None, deadline=None)
@given(st.sampled_from(sorted(DRAWN)), st.lists(st.integers(0, 22), max_size=40))
def test_any_samples_in_any_order(name, picked):
    case = DRAWN[name]
    assert case.manifest.transform(case.data[picked]).tobytes() == case.output[picked].tobytes()


def test_arrays_larger_than_a_piece(case):
    repeats = 4001
    large = np.concatenate([case.data] * repeats)
    assert case.manifest.transform(large).tobytes() == case.output.tobytes() * repeats


def test_no_samples(case):
    assert case.manifest.transform(case.data[:0]).shape == (0, *case.output.shape[1:])


def test_lists_and_scalars():
    manifest = fit_record([{"minmax": {"per": []}}], np.array([0.0, 10.0]), ("sample",), kind=Manifest)
    assert manifest.transform([0, 5, 10]).tolist() == [0.0, 0.5, 1.0]
    assert manifest.transform(5) == 0.5 and manifest.transform(5).shape == ()
    assert manifest.inverse_transform(0.5) == 5.0
    assert manifest.transform(np.float32(2.5)) == 0.25
    assert manifest.transform([True, False]).tolist() == [0.1, 0.0]


def test_inverse_returns_what_was_given_or_says_why_not(case):
    if not case.manifest.chain.invertible:
        with pytest.raises(NotInvertibleError, match="no inverse"):
            case.manifest.inverse_transform(case.output)
        return
    back = case.manifest.inverse_transform(case.output)
    assert back.dtype == case.data.dtype
    if case.projects:
        assert back.shape == case.data.shape
        np.testing.assert_allclose(case.manifest.transform(back), case.output, rtol=0, atol=1e-5)
    elif case.data.dtype.kind in "iu":
        assert back.tolist() == case.data.tolist()
    else:
        span = float(np.abs(case.output).max()) * np.finfo(case.output.dtype).eps
        scale = float(np.ptp(case.data)) / float(np.ptp(case.output))
        np.testing.assert_allclose(back, case.data, rtol=8 * np.finfo(case.data.dtype).eps, atol=8 * span * scale)
    assert back[3].tobytes() == case.manifest.inverse_transform(case.output[3]).tobytes()


def test_both_kinds_are_in_the_chains(cases):
    assert {case.manifest.chain.invertible for case in cases.values()} == {True, False}


def test_the_manifest_survives_saving_copying_and_pickling(case, tmp_path):
    case.manifest.save(tmp_path / "m")
    for other in (Manifest.load(tmp_path / "m"), copy.deepcopy(case.manifest), pickle.loads(pickle.dumps(case.manifest))):
        assert type(other) is Manifest and other.digest == case.manifest.digest
        assert other.transform(case.data).tobytes() == case.output.tobytes()


@pytest.mark.parametrize(
    "shape", [(), (5,), (23, 3), (23, 5), (1, 23, 3, 5), (3, 5, 23), (23, 3, 4), (23, 3, 6), (23, 3, 0), (0,)]
)
def test_other_shapes(cases, shape):
    with pytest.raises(InputMismatchError):
        cases["zscore per gene then unit_norm"].manifest.transform(np.ones(shape))


def test_a_size_that_was_not_fitted_is_named(cases):
    with pytest.raises(InputMismatchError, match="gene") as caught:
        cases["zscore"].manifest.transform(np.ones((23, 3, 4)))
    assert caught.value.found == "4" and caught.value.expected == 5
    with pytest.raises(InputMismatchError, match="gene"):
        cases["zscore"].manifest.inverse_transform(np.ones((23, 3, 4)))


def test_sizes_that_nothing_depends_on_are_free(cases):
    assert cases["clip"].manifest.transform(np.ones((2, 7, 9), np.float32)).shape == (2, 7, 9)
    assert cases["zscore"].manifest.transform(np.ones((2, 9, 5))).shape == (2, 9, 5)
    with pytest.raises(InputMismatchError):
        cases["zscore per gene then unit_norm"].manifest.transform(np.ones((2, 9, 5)))


@pytest.mark.parametrize(
    "values",
    [
        np.ones((23, 3, 5), complex),
        np.full((23, 3, 5), "1"),
        np.ones((23, 3, 5), object),
        np.ones((23, 3, 5), "M8[s]"),
        np.ones((23, 3, 5), "m8[s]"),
        np.ones((23, 3, 5), [("a", "f4")]),
        np.ones((23, 3, 5), np.longdouble),
        np.ma.masked_equal(np.ones((23, 3, 5)), 1),
        [[1, 2], [3]],
        "text",
        None,
        {"a": 1},
        2**70,
    ],
)
def test_what_are_no_real_numbers(cases, values):
    for manifest in (cases["minmax"].manifest, cases["zscore"].manifest):
        with pytest.raises(InputMismatchError):
            manifest.transform(values)
        with pytest.raises(InputMismatchError):
            manifest.inverse_transform(values)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "int64", "bool"])
def test_dtype_range_takes_its_own_dtype_only(cases, dtype):
    """The usual mistake: an image that was divided by 255 before, and is divided again."""
    for name in ("dtype_range", "dtype_range then zscore global"):
        with pytest.raises(InputMismatchError, match="uint8"):
            cases[name].manifest.transform(np.zeros((2, 3, 5), dtype))


def test_dtype_range_takes_any_byte_order_and_inverts_any_float():
    data = np.arange(12, dtype=np.uint16).reshape(3, 4)
    manifest = fit_record(["dtype_range"], data, ("sample", "x"), kind=Manifest)
    assert manifest.transform(data.astype(">u2")).tobytes() == manifest.transform(data.astype("<u2")).tobytes()
    for dtype in (np.float32, np.float64):
        assert manifest.inverse_transform(manifest.transform(data).astype(dtype)).tolist() == data.tolist()


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint64", "float16", "float32", "float64"])
def test_any_real_dtype_where_the_chain_does_not_depend_on_it(cases, dtype):
    values = np.arange(15).reshape(1, 3, 5).astype(dtype)
    manifest = cases["zscore"].manifest
    assert manifest.transform(values).tobytes() == manifest.transform(values.astype(np.float64)).tobytes()


def test_values_without_an_image_are_a_data_error(cases):
    with pytest.raises(DataError, match="log1p"):
        cases["log1p"].manifest.transform(np.full((1, 3, 5), -2.0))


def test_nan_stays_nan_and_spoils_nothing_else(cases):
    for name in CHAINS:
        case = cases[name]
        if case.data.dtype.kind != "f" or case.whole_genes:
            continue
        data = case.data.copy()
        data[4, 1, 2] = np.nan
        output = case.manifest.transform(data)
        assert np.argwhere(np.isnan(output)).tolist() == [[4, 1, 2]]
        assert np.delete(output.ravel(), 4 * 15 + 7).tobytes() == np.delete(case.output.ravel(), 4 * 15 + 7).tobytes()


def test_a_pandas_table_is_not_taken_by_position_where_there_are_labels():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    data = np.arange(15.0).reshape(3, 5)
    table = pandas.DataFrame(data, columns=GENES[::-1])
    labelled = fit_record([{"zscore": {"per": ["gene"]}}], data, ("cell", "gene"), {"gene": GENES}, kind=Manifest)
    with pytest.raises(InputMismatchError, match="position"):
        labelled.transform(table)
    plain = fit_record([{"zscore": {"per": ["gene"]}}], data, ("cell", "gene"), kind=Manifest)
    assert plain.transform(table).tobytes() == plain.transform(data).tobytes()


def test_dims_of_the_cases(cases):
    assert {case.manifest.chain.dims for case in cases.values()} == {DIMS}
