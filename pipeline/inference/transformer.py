"""The manifest as users hold it: loaded, applied to new data, inverted.

Not here: what is checked of the data (`checking.py`) and the arrays of xarray (`labelled.py`) and Dask (`lazy.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pipeline.inference.checking import as_plain, check_dtype, check_sizes, inverse_type
from pipeline.manifest import ManifestRecord
from pipeline.normalize.chain import FittedChain
from pipeline.source.kinds import is_xarray


@dataclass(frozen=True, eq=False, repr=False)
class Manifest(ManifestRecord):
    """A fitted chain that is applied to new data.

    Accepted are NumPy arrays and whatever `numpy.asarray` makes real numbers of, `xarray.DataArray` and `dask.array.Array`,
    the last two lazily where they are lazy. The same values give the same bits in each of them, in any order of the dims, any
    memory layout, any chunks and any subset of the samples.

    *By position* (NumPy, Dask): the axes are `chain.dims`; without the sample dim the array is a single sample. Sizes along
    the fitted dims must be the fitted ones.

    *By name* (xarray): dims in any order, with or without the sample dim. Along a dim whose labels the manifest knows, data
    that has labels is matched by their values: parameters follow the data's order and, where every step is elementwise along
    the dim, the data may hold a part of the features. Data without labels there, and labels along dims for which the manifest
    has none, go by position and size. The result keeps dims, coordinates, attributes and name; it has no encoding, since the
    type and scale in which the input was stored do not fit it.

    Examples
    --------
    >>> from pipeline.normalize.minmax import MinMax
    >>> step = MinMax().restore({"minimum": np.array(0.0), "maximum": np.array(4.0)})
    >>> chain = FittedChain((step,), ("sample",), "sample", np.dtype("float32"), np.dtype("float32"))
    >>> manifest = Manifest(chain, sizes={})
    >>> manifest.transform([1, 4])
    array([0.25, 1.  ], dtype=float32)
    >>> manifest.inverse_transform([0.25, 1.0])
    array([1., 4.], dtype=float32)
    """

    def transform(self, values: Any) -> Any:
        """`values` normalized.

        Parameters
        ----------
        values : array_like, xarray.DataArray or dask.array.Array
            Real numbers. Where the chain begins with `dtype_range`, of the dtype it was made for. Never changed.

        Returns
        -------
        ndarray, xarray.DataArray or dask.array.Array
            Of the same shape and kind, of the chain's output dtype.

        Raises
        ------
        InputMismatchError
            Where dims, sizes, labels or dtype do not fit the manifest.
        DataError
            Where a value has no image, such as log1p of -2 or one that overflows the output dtype.
        """
        return self._apply(values, None)

    def inverse_transform(self, values: Any, dtype: DTypeLike | None = None) -> Any:
        """What `transform` was given, from what it returned, within the resolution of the dtypes.

        Parameters
        ----------
        values : array_like, xarray.DataArray or dask.array.Array
            Real numbers of any dtype.
        dtype : dtype-like, optional
            Of the result; by default the chain's input dtype. `float64` where values beyond an integer type are to come back.

        Returns
        -------
        ndarray, xarray.DataArray or dask.array.Array
            Of the same shape and kind; rounded where `dtype` is an integer type.

        Raises
        ------
        NotInvertibleError
            Where a step of the chain has no inverse.
        InputMismatchError
            Where dims, sizes or labels do not fit the manifest, or `dtype` is no real type of up to 64 bits.
        DataError
            Where a value does not fit `dtype`.
        """
        self.chain.check_invertible()
        return self._apply(values, inverse_type(dtype, self.chain))

    def _apply(self, values: Any, inverse: np.dtype[Any] | None) -> Any:
        if is_xarray(values):
            from pipeline.inference.labelled import apply_by_name

            return apply_by_name(self, values, inverse)
        return self.apply_by_position(values, self.chain, self.sizes, inverse)

    def apply_by_position(
        self, values: Any, chain: FittedChain, sizes: Mapping[str, int], inverse: np.dtype[Any] | None
    ) -> Any:
        """A part of this manifest's chain, fitted to `sizes`, applied to a NumPy or Dask array whose axes are `chain.dims`.

        Inverted into the dtype `inverse` where that is given.
        """
        values = as_plain(values, self)
        check_dtype(values.dtype, self, inverse is not None)
        axis = self._sample_axis
        single = values.ndim == len(chain.dims) - 1
        if single:
            values = values[(slice(None),) * axis + (None, ...)]
        check_sizes(values.shape, chain.dims, sizes, single)
        result: Any
        if isinstance(values, np.ndarray):
            result = chain(values) if inverse is None else chain.inverse(values, dtype=inverse)
        else:
            from pipeline.inference.lazy import apply_lazily

            result = apply_lazily(values, chain, inverse, self.digest)
        return result[(slice(None),) * axis + (0, ...)] if single else result

    @cached_property
    def _sample_axis(self) -> int:
        return self.chain.dims.index(self.chain.sample_dim)
