"""The manifests of several arrays as users hold them: loaded together, applied to an xarray.Dataset or a mapping of arrays.

Not here: one manifest (`transformer.py`) and the folder (`pipeline.manifest.collection`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Self

from pipeline.errors import ConfigError, InputMismatchError, PipelineError
from pipeline.inference.transformer import Manifest
from pipeline.manifest.collection import collection_digest, is_collection, load_collection, save_collection
from pipeline.source.kinds import is_dataset


class ManifestCollection(Mapping[str, Manifest]):
    """The manifests of several arrays by the arrays' names, in the order in which they were given.

    Parameters
    ----------
    manifests : mapping of str to Manifest
        At least one.

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline import fit
    >>> data = {"a": np.array([[0.0], [2.0]]), "b": np.array([[1.0], [3.0]])}
    >>> collection = fit(data, normalize={"a": ["maxabs"], "b": [{"minmax": {"per": []}}]})
    >>> collection.transform(data)["b"].tolist()
    [[0.0], [1.0]]
    >>> list(collection), collection["a"].transform([[4.0]]).tolist()
    (['a', 'b'], [[2.0]])
    """

    def __init__(self, manifests: Mapping[str, Manifest]) -> None:
        if not manifests or "" in manifests:
            raise ConfigError("not the manifests of arrays", found=list(manifests), expected="one or more, by their names")
        self._manifests = dict(manifests)

    def __getitem__(self, name: str) -> Manifest:
        return self._manifests[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifests)

    def __len__(self) -> int:
        return len(self._manifests)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self)}; digest {self.digest[:12]}>"

    @cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 of the names and the digests of the manifests; their order is no part of it."""
        return collection_digest({name: manifest.digest for name, manifest in self.items()})

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the folder `path`, at once and whole: `collection.json`, and a manifest in a sub-folder for each array.

        Raises
        ------
        ConfigError, OutputExistsError, WriteError
            As `Manifest.save`.
        """
        save_collection(self, path, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ManifestError
            Where any part of it is missing, cut short, altered in any byte, put in the place of another, or of another schema
            version; also where it is the manifest of one array, which `Manifest.load` reads.
        """
        return cls(load_collection(path, Manifest))

    def transform(self, data: Any, by: Any = None) -> Any:
        """`data` with the arrays of this collection normalized.

        Parameters
        ----------
        data : xarray.Dataset or mapping of str to array
            Arrays as `Manifest.transform` takes them. All that were fitted must be there; those that were not fitted are
            passed through untouched, and coordinates are kept. For some of the arrays take their manifests,
            ``collection["images"].transform(…)``.
        by : array_like of shape (samples,) or one label, optional
            As for `Manifest.transform`, for the arrays that were fitted by group.

        Returns
        -------
        xarray.Dataset or dict of str to array
            As `data` was given, in its order.

        Raises
        ------
        InputMismatchError
            Where an array is missing or does not fit its manifest.
        DataError
            Where a value has no image.
        """
        return self._apply(data, lambda manifest, values: manifest.transform(values, by if manifest.groups else None))

    def inverse_transform(self, data: Any, by: Any = None) -> Any:
        """What `transform` was given, from what it returned; each array in the dtype that it was fitted on.

        Parameters
        ----------
        data, by
            As for `transform`.

        Raises
        ------
        NotInvertibleError
            Where a step of a chain has no inverse; nothing is then computed.
        InputMismatchError, DataError
            As `Manifest.inverse_transform`.
        """
        for name, manifest in self.items():
            with naming(name):
                manifest.chain.check_invertible()
        return self._apply(
            data, lambda manifest, values: manifest.inverse_transform(values, by=by if manifest.groups else None)
        )

    def to_json(self) -> dict[str, Any]:
        """What there is to show, as JSON types: `digest`, and `arrays`, what `Manifest.to_json` gives of each."""
        return {"digest": self.digest, "arrays": {name: manifest.to_json() for name, manifest in self.items()}}

    def _apply(self, data: Any, applied: Callable[[Manifest, Any], Any]) -> Any:
        dataset = is_dataset(data)
        arrays = data.data_vars if dataset else data
        if not isinstance(arrays, Mapping):
            raise InputMismatchError(
                "not several arrays",
                found=type(data).__name__,
                expected="an xarray.Dataset or a mapping from names to arrays",
                remedy=f"give one array to its manifest: collection[{next(iter(self))!r}]",
            )
        missing = [name for name in self if name not in arrays]
        if missing:
            raise InputMismatchError(
                "arrays that were fitted are missing",
                where=", ".join(missing),
                found=", ".join(map(str, arrays)) or "no array",
                expected=", ".join(self),
                remedy=f"for some of the arrays take their manifests: collection[{next(iter(self))!r}]",
            )
        found = {}
        for name, manifest in self.items():
            with naming(name):
                found[name] = applied(manifest, arrays[name])
        return _assigned(data, found) if dataset else {name: found.get(name, values) for name, values in arrays.items()}


def _assigned(dataset: Any, found: Mapping[str, Any]) -> Any:
    """`dataset` with the arrays `found`; where these have a part of a dim's positions, all of it is cut to that part."""
    for name, values in found.items():
        for dim in values.dims:
            if dim not in dataset[name].dims:
                _check_new_dim(dataset, found, name, dim)
                continue
            if values.sizes[dim] == dataset.sizes[dim]:
                continue
            others = [other for other, array in found.items() if dim in array.dims and array.sizes[dim] != values.sizes[dim]]
            if others or dim not in dataset.indexes or not dataset.indexes[dim].is_unique:
                raise InputMismatchError(
                    f"a part of {dim} is kept, to which the rest of the dataset cannot be cut",
                    where=f"array {name}",
                    found=f"all of {dim} in {', '.join(others)}" if others else f"no distinct labels of {dim}",
                    remedy=f"take the manifests one by one: collection[{name!r}]",
                )
            dataset = dataset.isel({dim: dataset.indexes[dim].get_indexer(values.indexes[dim])})
    return dataset.assign(found)


def _check_new_dim(dataset: Any, found: Mapping[str, Any], name: str, dim: Any) -> None:
    """Raise InputMismatchError where a dim that array `name` has only now is of another size in the dataset or the others."""
    size = found[name].sizes[dim]
    sizes = {
        "the dataset": dataset.sizes.get(dim, size),
        **{other: array.sizes.get(dim, size) for other, array in found.items()},
    }
    others = [f"{each} in {other}" for other, each in sizes.items() if each != size]
    if others:
        raise InputMismatchError(
            f"another number of components along {dim}",
            where=f"array {name}",
            found=f"{size}, and {', '.join(others)}",
            remedy=f"take the manifests one by one, collection[{name!r}], or fit with another component_dim",
        )


def load_manifest(path: str | os.PathLike[str]) -> Manifest | ManifestCollection:
    """The manifest in a folder, or the collection of them; raises ManifestError as their own `load`."""
    return ManifestCollection.load(path) if is_collection(path) else Manifest.load(path)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Adds to an error which array it was met in."""
    try:
        yield
    except PipelineError as error:
        error.where = f"array {name}" if error.where is None else f"array {name}, {error.where}"
        raise
