"""A manifest applied to an xarray.DataArray: dims by name, features by label.

Not here: the transformation, which is that of every array. Imported only when a DataArray is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputMismatchError
from pipeline.inference.checking import check_names, dims_of, positions
from pipeline.source.kinds import is_dask

if TYPE_CHECKING:
    import xarray

    from pipeline.inference.transformer import Manifest


@dataclass(frozen=True)
class Match:
    """How data's features go with the fitted ones.

    Parameters
    ----------
    picked : dict of str to ndarray of intp
        Along dims where every step is elementwise: which of the fitted features the data holds, in its order.
    sorting : dict of str to ndarray of intp
        Along dims that a step looks at whole: where in the data each fitted feature is.
    """

    picked: dict[str, NDArray[np.intp]] = field(default_factory=dict)
    sorting: dict[str, NDArray[np.intp]] = field(default_factory=dict)


def apply_by_name(manifest: Manifest, values: xarray.DataArray, by: Any, inverse: np.dtype[Any] | None) -> xarray.DataArray:
    """`values` transformed, or inverted into the dtype `inverse`, with its own dims, coordinates, attributes and name.

    The values are brought into the manifest's order of dims, and along whole-vector dims into the fitted order of labels, so
    that sums over features round as they did in the batch job; the result is brought back. Along a dim of which the chain keeps
    a part, the result has that part of the data, in the data's order, with its coordinates. A dim that the chain makes has no
    coordinates; the inverse gives the dims in whose place it is the fitted labels.
    """
    from xarray import Variable

    chain, forward = manifest.chain, inverse is None
    given, left = dims_of(chain, not forward)
    check_names(values.dims, given, chain.sample_dim)
    sizes, known = (manifest.sizes, manifest.labels) if forward else (manifest.output_sizes, manifest.output_labels)
    match = match_labels(known, values, chain.whole_dims)
    variable = values.variable.transpose(*(dim for dim in given if dim in values.dims)).isel(match.sorting)
    data = variable.data
    if not isinstance(data, np.ndarray) and not is_dask(data):
        raise InputMismatchError(
            "the DataArray holds no NumPy or Dask array", found=type(data).__name__, remedy="values.as_numpy()"
        )
    sizes = {**sizes, **{dim: len(places) for dim, places in match.picked.items()}}
    labels = sample_labels(manifest, values) if by is None else by
    normalized = manifest.apply_by_position(data, labels, match.picked, sizes, inverse)
    kept = chain.kept
    places = {dim: at[kept[dim]] if dim in kept else at for dim, at in match.sorting.items()}
    result = Variable([dim for dim in left if dim in values.dims or dim not in given], normalized)
    back = {dim: np.argsort(at) for dim, at in places.items() if dim in result.dims}
    named = dict.fromkeys(map(str, values.dims), 0)
    wanted = chain.output_sizes(named) if forward else chain.input_sizes(named)
    part = {dim: np.sort(places.get(dim, at)) for dim, at in kept.items()}
    return _labelled(values.isel(part), result.isel(back).transpose(*wanted), manifest.labels)


def _labelled(values: xarray.DataArray, result: xarray.Variable, labels: Mapping[str, NDArray[Any]]) -> xarray.DataArray:
    """`values` with the data and dims of `result`; along dims that they have not the fitted `labels`."""
    from xarray import DataArray

    gone, new = set(values.dims) - set(result.dims), [dim for dim in result.dims if dim not in values.dims]
    if not gone and not new:
        labelled = values.copy(deep=False, data=result.data)
        labelled.encoding = {}
        return labelled
    left = values.drop_vars([name for name, each in values.coords.items() if gone.intersection(each.dims)])
    named = DataArray(result.data, left.coords, result.dims, name=values.name, attrs=values.attrs)
    return named.assign_coords({dim: labels[str(dim)] for dim in new if dim in labels})


def sample_labels(manifest: Manifest, values: xarray.DataArray) -> NDArray[Any] | None:
    """The group of each sample, or of all, by the coordinate that the manifest's groups are named after; None without."""
    groups = manifest.groups
    if groups is None or groups.by not in values.coords:
        return None
    coordinate = values.coords[groups.by]
    if coordinate.dims not in ((), (manifest.chain.sample_dim,)):
        raise InputMismatchError(
            "this coordinate does not label samples",
            where=groups.by,
            found=f"dims {', '.join(map(str, coordinate.dims))}",
            expected=manifest.chain.sample_dim,
        )
    labels: NDArray[Any] = coordinate.to_numpy()
    return labels


def match_labels(known: Mapping[str, NDArray[Any]], values: xarray.DataArray, whole_dims: frozenset[str]) -> Match:
    """How the labels of `values` go with those that the manifest knows; raises InputMismatchError where they do not."""
    match = Match()
    for dim, fitted in known.items():
        if dim not in values.coords:
            continue
        places = positions(fitted, values.coords[dim].to_numpy(), dim)
        if places is None:
            continue
        if dim not in whole_dims:
            match.picked[dim] = places
        elif len(places) == len(fitted):
            match.sorting[dim] = np.argsort(places)
        else:
            raise InputMismatchError(
                "a step looks at the whole of this dim",
                where=f"dim {dim}",
                found=f"{len(places)} of its labels",
                expected=f"all {len(fitted)}",
                remedy="give all fitted features",
            )
    return match
