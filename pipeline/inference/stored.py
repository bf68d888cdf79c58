"""A manifest applied to a whole source: whether the source fits, and the chain for its features.

Not here: reading and writing (`pipeline.apply`).
"""

from __future__ import annotations

from pipeline.errors import InputMismatchError
from pipeline.inference.checking import check_dtype, check_names, check_sizes, positions
from pipeline.inference.grouped import stored_chain_by
from pipeline.manifest import ManifestRecord
from pipeline.normalize.chain import FittedChain
from pipeline.normalize.grouped import GroupedChain
from pipeline.normalize.step import Indexer
from pipeline.source.source import Source


def chain_for(manifest: ManifestRecord, source: Source) -> FittedChain | GroupedChain:
    """The manifest's chain for the features of `source`, in the source's order where both are labelled.

    Where the manifest was fitted by group, each sample's group is told by the source's coordinate of that name.

    Raises
    ------
    InputMismatchError
        Where dims, dtype, sizes or labels do not fit.
    """
    chain = manifest.chain
    check_names(source.dims, chain.dims, chain.sample_dim)
    check_dtype(source.dtype, manifest, inverse=False)
    picked: dict[str, Indexer] = {}
    for dim in source.dims:
        labels = source.labels(dim)
        places = None
        if dim in manifest.labels and labels is not None:
            places = positions(manifest.labels[dim], labels, dim)
        if places is not None:
            _check_not_whole(chain, dim, places.size, len(manifest.labels[dim]))
            picked[dim] = places
    by_position = {dim: size for dim, size in manifest.sizes.items() if dim not in picked}
    check_sizes(source.shape, source.dims, by_position, single=False)
    grouped = stored_chain_by(manifest, source)
    return grouped.select(picked) if picked else grouped


def _check_not_whole(chain: FittedChain, dim: str, count: int, fitted: int) -> None:
    """Raise InputMismatchError where a step looks at the whole of a dim, of whose labels the source has so many, or in another
    order."""
    if dim in chain.whole_dims and count < fitted:
        raise InputMismatchError(
            "a step looks at the whole of this dim",
            where=f"dim {dim}",
            found=f"{count} of its labels",
            expected=f"all {fitted}, in the fitted order",
            remedy="give a store with all fitted features",
        )
    if dim in chain.whole_dims:
        raise InputMismatchError(
            "a step looks at the whole of this dim, in the fitted order",
            where=f"dim {dim}",
            found=f"{count} labels in another order",
            expected="the fitted labels in the fitted order",
            remedy="reorder the store's features",
        )
