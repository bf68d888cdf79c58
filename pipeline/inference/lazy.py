"""A chain applied to a Dask array, block by block when it is computed.

Not here: what is done to a block, which is what is done to every array. Imported only when a Dask array is given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputMismatchError
from pipeline.inference.checking import dims_of
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain

if TYPE_CHECKING:
    import dask.array


def apply_lazily(
    values: dask.array.Array, chain: FittedChain | GroupedChain, inverse: np.dtype[Any] | None, digest: str
) -> dask.array.Array:
    """The transformed, or inverted, array; nothing is computed.

    Parameters
    ----------
    values : dask.array.Array
        Its axes are the dims of the chain, or for the inverse those of its output. Chunk sizes along the sample dim may be
        unknown.
    chain : FittedChain or GroupedChain
        Sent to a worker once, not once a block.
    inverse : numpy.dtype, optional
        Of the result of the inverse; None to transform.
    digest : str
        That of the manifest; names tasks, together with the parameters that were picked from it.
    """
    from dask.array import map_blocks
    from dask.base import tokenize
    from dask.delayed import delayed

    given, left = dims_of(chain, inverse is not None)
    whole = {axis: -1 for axis, dim in enumerate(given) if dim in chain.whole_dims or dim not in chain.dims}
    if whole:
        values = values.rechunk(whole)
    fitted = {dim for step in chain.steps for dim in step.per}
    grouped = isinstance(chain, GroupedChain) and chain.codes.ndim > 0
    fitted.update({chain.sample_dim} if grouped else ())
    starts = {dim: _starts(values.chunks[axis], dim) for axis, dim in enumerate(given) if dim in fitted}
    own = (chain.codes, chain.selections) if isinstance(chain, GroupedChain) else ()
    token = tokenize(values.name, digest, [dict(step.parameters) for step in chain.steps], own, str(inverse))
    dtype = chain.output_dtype if inverse is None else inverse
    own_sizes, own_chunks = (dict(zip(given, each, strict=True)) for each in (values.shape, values.chunks))
    sizes = chain.output_sizes(own_sizes) if inverse is None else chain.input_sizes(own_sizes)
    chunks = tuple(own_chunks[dim] if dim in given and dim not in chain.kept else (sizes[dim],) for dim in left)
    lazy: dask.array.Array = map_blocks(
        _apply_block,
        values,
        chain=delayed(chain, name=f"chain-{token}", traverse=False),
        inverse=inverse,
        starts=starts,
        drop_axis=[axis for axis, dim in enumerate(given) if dim not in left],
        new_axis=[axis for axis, dim in enumerate(left) if dim not in given],
        name=f"{'transform' if inverse is None else 'inverse-transform'}-{token}",
        dtype=dtype,
        chunks=chunks,
        meta=np.empty((0,) * len(left), dtype=dtype),
    )
    return lazy


def _apply_block(
    values: NDArray[Any],
    chain: FittedChain | GroupedChain,
    inverse: np.dtype[Any] | None,
    starts: dict[str, list[int]],
    block_id: tuple[int, ...] = (),
) -> NDArray[Any]:
    """One block, by the part of the chain whose features it holds."""
    given, left = dims_of(chain, inverse is not None)
    indexers = {}
    for axis, dim in enumerate(left):
        if dim in starts and len(starts[dim]) > 1:
            start = starts[dim][block_id[axis]]
            indexers[dim] = slice(start, start + values.shape[given.index(dim)])
    part = chain.select(indexers) if indexers else chain
    return part(values) if inverse is None else part.inverse(values, dtype=inverse)


def _starts(chunks: tuple[float, ...], dim: str) -> list[int]:
    """Where each chunk begins."""
    if any(math.isnan(size) for size in chunks):
        raise InputMismatchError(
            "chunk sizes along a fitted dim are unknown", where=f"dim {dim}", remedy="values.compute_chunk_sizes()"
        )
    return [0, *np.cumsum(chunks, dtype=np.int64).tolist()[:-1]]
