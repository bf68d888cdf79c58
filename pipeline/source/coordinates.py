"""The one-dimensional arrays beside an array: labels, splits, plates.

Not here: which samples they select (`select.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from zarr.abc.store import Store

from pipeline.errors import SourceError
from pipeline.source.chunks import ZarrArray
from pipeline.source.columns import find_column, read_column
from pipeline.source.hierarchy import attributes_of, children, find_node, join_path, parent_path
from pipeline.source.labels import no_such_coordinate, stands_for_another, usable_labels
from pipeline.source.store import store_name

NAMES_ATTRIBUTE = "_ARRAY_DIMENSIONS"
X, LAYERS, OBS, VAR = "X", "layers", "obs", "var"


@dataclass(frozen=True)
class Coordinates:
    """What labels the dims of one array.

    Parameters
    ----------
    store : zarr.abc.store.Store
    array : zarr.Array
        The array that is labelled.
    dims : tuple of str
    sample_dim : str
    open_array : callable
        Opens the array at a path.
    read_array : callable
        Reads all of an array, given whether an absent chunk of it is no loss.
    """

    store: Store
    array: ZarrArray
    dims: tuple[str, ...]
    sample_dim: str
    open_array: Callable[[str], ZarrArray]
    read_array: Callable[[ZarrArray, bool], NDArray[Any]]

    @property
    def group(self) -> str:
        """Path of the group that the array is in."""
        return parent_path(self.array.path)

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.dims, self.array.shape, strict=True))

    def labels(self, dim: str) -> NDArray[Any] | None:
        """The strings, integers or floats of the coordinate named like `dim`; of an AnnData, else, the index of its table."""
        if not self.array.path:
            return None
        node = find_node(self.store, join_path(self.group, dim))
        if node is None or node.path == self.array.path or node.shape != (self.sizes[dim],):
            return self._names_in_table(dim)
        array = self.open_array(node.path)
        return None if stands_for_another(array.attrs) else usable_labels(self.read_array(array, False))

    def _names_in_table(self, dim: str) -> NDArray[Any] | None:
        """The names of the observations or variables that `dim` of an AnnData's matrix goes along; None of any other array."""
        root = parent_path(self.group) if self.group.rpartition("/")[2] == LAYERS else self.group
        is_matrix = self.group != root or self.array.path == join_path(root, X)
        if not is_matrix or len(self.dims) != 2 or not self._is_anndata(root):
            return None
        table = join_path(root, (OBS, VAR)[self.dims.index(dim)])
        path = join_path(table, str(attributes_of(self.store, table).get("_index")))
        node = find_column(self.store, path)
        if node is None or node.shape != (self.sizes[dim],):
            return None
        return usable_labels(self._column(path))

    def read(self, name: str) -> tuple[str, NDArray[Any]]:
        """The dim and the values of the coordinate `name`; raises SourceError where there is none or it fits no dim.

        It is looked for beside the array, then beside each group that the array is in; in an AnnData also among the columns of
        its `obs`. A categorical column has the values of its categories.
        """
        for path in self._places(name):
            node = find_column(self.store, path)
            if node is not None and node.shape is not None and node.path != self.array.path:
                break
        else:
            raise no_such_coordinate(name, self._names(), self._where(name))
        if len(node.shape) != 1:
            raise SourceError(
                "a coordinate must be one-dimensional",
                where=self._where(name),
                found=f"shape {node.shape}",
                expected=self._fitting(),
            )
        dims = stored_dims(self.open_array(node.path))
        dim = self._dim_of(name, dims[0] if dims else None, node.shape[0])
        return dim, self._column(path)

    def _column(self, path: str) -> NDArray[Any]:
        return read_column(self.store, path, lambda part, absent: self.read_array(self.open_array(part), absent))

    def _places(self, name: str) -> Iterator[str]:
        """The paths at which the coordinate `name` may be, the nearest first."""
        group, inside = self.group, bool(self.array.path)
        while inside:
            yield join_path(group, name)
            if self._is_anndata(group):
                yield join_path(join_path(group, OBS), name)
            group, inside = parent_path(group), bool(group)

    def _is_anndata(self, group: str) -> bool:
        return attributes_of(self.store, group).get("encoding-type") == "anndata"

    def _dim_of(self, name: str, named: str | None, length: int) -> str:
        stored = stored_dims(self.array)
        if named is not None and (named in self.dims or stored is not None):
            candidates = [named] if self.sizes.get(named) == length else []
        else:
            candidates = [dim for dim in (self.sample_dim, *self.dims) if self.sizes[dim] == length]
        if not candidates:
            raise SourceError(
                "the coordinate fits no dim of the array",
                where=self._where(name),
                found=f"{length} values" + (f" along {named}" if named else ""),
                expected=self._fitting(),
            )
        return candidates[0]

    def _names(self) -> list[str]:
        if not self.array.path:
            return []
        lengths = [(size,) for size in self.array.shape]
        beside = [node.path for node in children(self.store, self.group) if node.shape in lengths]
        columns = children(self.store, OBS) if self._is_anndata("") else ()
        found = [*beside, *(node.path for node in columns if not node.path.endswith("/_index"))]
        return [path.rpartition("/")[2] for path in found if path != self.array.path]

    def _fitting(self) -> str:
        return "as many values as a dim has: " + ", ".join(f"{dim} {size}" for dim, size in self.sizes.items())

    def _where(self, name: str) -> str:
        return f"{store_name(self.store)}:{join_path(self.group, name)}"


def stored_dims(array: ZarrArray) -> tuple[str | None, ...] | None:
    """The names of its dims that an array stores, None for a dim without one, or None altogether.

    Format 3 has `dimension_names`; format 2, and some writers of format 3, the attribute `_ARRAY_DIMENSIONS` of xarray.
    """
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(NAMES_ATTRIBUTE)
    if not isinstance(names, (list, tuple)) or len(names) != array.ndim or all(name is None for name in names):
        return None
    return tuple(None if name is None else str(name) for name in names)
