"""Whether new data fits a manifest: kind, dtype, dims, sizes and labels.

Not here: what is done with data that does.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.dtypes import DTYPES, is_supported
from pipeline.errors import InputMismatchError, ManifestError
from pipeline.manifest import ManifestRecord, as_labels
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.source.kinds import as_array, is_table

_SHOWN_LABELS = 3


def as_plain(values: Any, manifest: ManifestRecord) -> Any:
    """`values` as a NumPy or Dask array; raises InputMismatchError for what would lose its mask, its names or its labels."""
    if is_table(values) and manifest.labels:
        raise InputMismatchError(
            "a table's columns would be taken by position, its labels ignored",
            found=f"pandas.{type(values).__name__}",
            expected=f"labels along {', '.join(manifest.labels)}",
            remedy="xarray.DataArray(table, dims=…) to match by label, table.to_numpy() to take them as they are",
        )
    return as_array(values, InputMismatchError)


def dims_of(chain: FittedChain | GroupedChain, inverse: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The dims of what the chain, or its inverse, is given, and those of what it returns."""
    return (chain.output_dims, chain.dims) if inverse else (chain.dims, chain.output_dims)


def inverse_type(dtype: DTypeLike | None, chain: FittedChain) -> np.dtype[Any]:
    """The type in which an inverse is asked for, by default that of what was fitted on."""
    try:
        result = chain.input_dtype if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        result = None
    if result is None or not is_supported(result):
        raise InputMismatchError(
            "not a type that values can be returned in", where="dtype", found=dtype, expected=", ".join(DTYPES)
        )
    return result.newbyteorder("=")


def check_dtype(dtype: np.dtype[Any], manifest: ManifestRecord, inverse: bool) -> None:
    """That values of `dtype` are real numbers and, for a chain that goes by the dtype's range, those it was made for."""
    if not is_supported(dtype):
        raise InputMismatchError(
            "the values are not real numbers of up to 64 bits", found=f"dtype {dtype}", expected="bool, integers or floats"
        )
    chain = manifest.chain
    if inverse or not chain.steps or chain.steps[0].step.name != "dtype_range":
        return
    expected = chain.input_dtype
    if (dtype.kind, dtype.itemsize) != (expected.kind, expected.itemsize):
        raise InputMismatchError(
            "dtype_range maps the range of one dtype",
            found=f"dtype {dtype}",
            expected=f"dtype {expected.name}",
            remedy=f"give the values as they were before any scaling, as {expected.name}",
        )


def check_sizes(shape: tuple[int, ...], dims: tuple[str, ...], sizes: Mapping[str, int], single: bool) -> None:
    """That an array of `shape` with axes `dims` has the fitted sizes; `single` says that its sample axis was added."""
    if len(shape) != len(dims):
        raise InputMismatchError(
            "wrong number of dims",
            found=f"{len(shape)} dims, shape {shape}",
            expected=f"{', '.join(dims)}, or one sample of it",
        )
    for size, dim in zip(shape, dims, strict=True):
        if dim in sizes and size != sizes[dim]:
            found = f"{size}, as a single sample" if single else f"{size}"
            raise InputMismatchError("another size than the one fitted", where=f"dim {dim}", found=found, expected=sizes[dim])


def check_names(found: tuple[Any, ...], dims: tuple[str, ...], sample_dim: str) -> None:
    """That named dims are those of the manifest, in any order, with or without the sample dim."""
    if len(set(found)) == len(found) and set(found) in (set(dims), set(dims) - {sample_dim}):
        return
    raise InputMismatchError(
        "the dims are not those of the manifest",
        found=", ".join(map(str, found)) or "none",
        expected=f"{', '.join(dims)} in any order, with or without {sample_dim}",
        remedy="rename or select dims: values.rename(…), values.isel(…)",
    )


def positions(fitted: NDArray[Any], given: Any, dim: str) -> NDArray[np.intp] | None:
    """Where each of the `given` labels stands among the `fitted` ones; None where both are the same in the same order.

    Raises
    ------
    InputMismatchError
        Where a label is unknown, or labels differ in order and are not distinct.
    """
    where = f"labels of {dim}"
    try:
        labels = as_labels(given, dim)
    except ManifestError as error:
        raise InputMismatchError(error.what, where=where, found=error.found, expected=error.expected) from None
    known, wanted = _comparable(fitted), _comparable(labels)
    if known == wanted:
        return None
    places = {label: place for place, label in enumerate(known)}
    _check_known(wanted, places, where)
    if len(places) != len(known) or len(set(wanted)) != len(wanted):
        raise InputMismatchError(
            "labels that occur twice cannot be matched by value",
            where=where,
            found=_first_twice(wanted if len(places) == len(known) else known),
            remedy=f"give the fitted labels in the fitted order, or data without labels: values.drop_vars({dim!r})",
        )
    return np.array([places[label] for label in wanted], dtype=np.intp)


def _comparable(labels: NDArray[Any]) -> list[Any]:
    """`labels` as Python values, every NaN the same object, so that it equals itself."""
    return [math.nan if label != label else label for label in labels.tolist()]


def _check_known(wanted: list[Any], places: Mapping[Any, int], where: str) -> None:
    unknown = [label for label in wanted if label not in places]
    if not unknown:
        return
    shown = ", ".join(repr(label) for label in unknown[:_SHOWN_LABELS]) + (", …" if len(unknown) > _SHOWN_LABELS else "")
    near = difflib.get_close_matches(str(unknown[0]), [str(label) for label in list(places)[:10_000]], n=_SHOWN_LABELS)
    raise InputMismatchError(
        f"{len(unknown)} of {len(wanted)} labels were not fitted",
        where=where,
        found=shown,
        expected=f"among the {len(places)} fitted" + (f", such as {', '.join(near)}" if near else ""),
        remedy="keep the fitted features: values.sel(…)",
    )


def _first_twice(labels: list[Any]) -> str:
    seen: set[Any] = set()
    for label in labels:
        if label in seen:
            return repr(label)
        seen.add(label)
    return "none"
