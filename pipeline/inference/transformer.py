"""The manifest as users hold it: loaded, applied to new data, inverted.

Not here: what is checked of the data (`checking.py`) and the arrays of xarray (`labelled.py`) and Dask (`lazy.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pipeline.inference import folding
from pipeline.inference.checking import as_plain, check_dtype, check_sizes, dims_of, inverse_type
from pipeline.inference.grouped import chain_by
from pipeline.manifest import ManifestRecord
from pipeline.normalize.step import Indexer
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
    >>> from pipeline.normalize.chain import FittedChain
    >>> from pipeline.normalize.minmax import MinMax
    >>> step = MinMax().restore({"minimum": np.array(0.0), "maximum": np.array(4.0)})
    >>> chain = FittedChain((step,), ("sample",), "sample", np.dtype("float32"), np.dtype("float32"))
    >>> manifest = Manifest(chain, sizes={})
    >>> manifest.transform([1, 4])
    array([0.25, 1.  ], dtype=float32)
    >>> manifest.inverse_transform([0.25, 1.0])
    array([1., 4.], dtype=float32)
    """

    def transform(self, values: Any, by: Any = None) -> Any:
        """`values` normalized.

        Parameters
        ----------
        values : array_like, xarray.DataArray or dask.array.Array
            Real numbers. Where the chain begins with `dtype_range`, of the dtype it was made for. Never changed.
        by : array_like of shape (samples,) or one label, optional
            For a manifest that was fitted by group the label of each sample, or that of all of them. A DataArray that has
            them as its coordinate of that name needs no `by`.

        Returns
        -------
        ndarray, xarray.DataArray or dask.array.Array
            Of the same kind, of the chain's output dtype; of the same shape, unless a step keeps a part of a dim or makes one.

        Raises
        ------
        InputMismatchError
            Where dims, sizes, labels or dtype do not fit the manifest, labels of samples are missing, or one of them was not
            fitted and `unseen` is 'error'.
        DataError
            Where a value has no image, such as log1p of -2 or one that overflows the output dtype.
        """
        return self._apply(values, by, None)

    def inverse_transform(self, values: Any, dtype: DTypeLike | None = None, by: Any = None) -> Any:
        """What `transform` was given, from what it returned, within the resolution of the dtypes.

        Where `whiten` kept some of the components it is what was kept: the projection onto these.

        Parameters
        ----------
        values : array_like, xarray.DataArray or dask.array.Array
            Real numbers of any dtype.
        dtype : dtype-like, optional
            Of the result; by default the chain's input dtype. `float64` where values beyond an integer type are to come back.
        by : array_like of shape (samples,) or one label, optional
            As for `transform`.

        Returns
        -------
        ndarray, xarray.DataArray or dask.array.Array
            Of the same kind, and of the shape of what was transformed; rounded where `dtype` is an integer type.

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
        return self._apply(values, by, inverse_type(dtype, self.chain))

    def scale_and_shift(self, by: Any = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The chain as batch normalization has it: ``y = scale * x + shift``.

        Affine steps ``(x - c) * s + o`` become one, in float64. Rounding to the output dtype is no part of it. Where a mean is
        large beside the spread, ``scale * x`` and ``shift`` cancel: the result is then exact to the rounding of these two
        terms, which `transform`, where the mean is subtracted first, does not have.

        Parameters
        ----------
        by : label, optional
            For a manifest that was fitted by group the group that is meant.

        Returns
        -------
        scale, shift : ndarray of float64
            Along the dims `tuple(sizes)`, of the shape `tuple(sizes.values())`; () where there is one of each for everything.

        Raises
        ------
        InputMismatchError
            Where a step is not affine, the output is rounded to integers, or the group is not known.

        Examples
        --------
        >>> from pipeline.normalize.chain import FittedChain
        >>> from pipeline.normalize.minmax import MinMax
        >>> step = MinMax(range=(-1, 1)).restore({"minimum": np.array(2.0), "maximum": np.array(4.0)})
        >>> dtype = np.dtype("float64")
        >>> Manifest(FittedChain((step,), ("sample",), "sample", dtype, dtype), sizes={}).scale_and_shift()
        (array(1.), array(-3.))
        """
        return folding.scale_and_shift(folding.one_chain(self, by), self.sizes)

    def fold_into(self, weight: ArrayLike, bias: ArrayLike | None = None, by: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """The first layer that does with raw values what the given one does with normalized ones.

        ``W·(scale·x + shift) + b = (W·scale)·x + (b + W·shift)``, computed in float64; exact to rounding, with what
        `scale_and_shift` says of large means.

        A convolution's bias is exact only without zero padding: zeros that are padded to normalized inputs are raw
        ``-shift / scale``, so pad raw inputs with that. The weight is right in any case.

        Parameters
        ----------
        weight : array_like
            *Dense*, (outputs, features): the features are those of the data's dims but the sample dim, flattened in their order
            (C order). *Convolution*, (outputs, channels, *kernel) with one or more dims of kernel: every parameter of the
            chain is per channel or for everything. Not changed.
        bias : array_like, optional
            Of shape (outputs,); zeros where there is none.
        by : label, optional
            As for `scale_and_shift`.

        Returns
        -------
        weight, bias : ndarray
            Of the given shapes and floating dtypes (float64 for others).

        Raises
        ------
        InputMismatchError
            Where a step is not affine, or the shapes do not fit the manifest.

        Examples
        --------
        >>> from pipeline.normalize.chain import FittedChain
        >>> from pipeline.normalize.standard import ZScore
        >>> step = ZScore(per=("x",)).restore({"mean": np.array([1.0, 2.0]), "std": np.array([2.0, 4.0])})
        >>> dtype = np.dtype("float64")
        >>> manifest = Manifest(FittedChain((step,), ("sample", "x"), "sample", dtype, dtype), sizes={"x": 2})
        >>> manifest.fold_into([[2.0, 4.0]], [10.0])
        (array([[1., 1.]]), array([7.]))
        """
        return folding.fold(folding.one_chain(self, by), self.sizes, weight, bias)

    def _apply(self, values: Any, by: Any, inverse: np.dtype[Any] | None) -> Any:
        if is_xarray(values):
            from pipeline.inference.labelled import apply_by_name

            return apply_by_name(self, values, by, inverse)
        return self.apply_by_position(values, by, {}, self.sizes if inverse is None else self.output_sizes, inverse)

    def apply_by_position(
        self,
        values: Any,
        by: Any,
        picked: Mapping[str, Indexer],
        sizes: Mapping[str, int],
        inverse: np.dtype[Any] | None,
    ) -> Any:
        """This manifest's chain for the features `picked`, whose sizes are `sizes`, applied to a NumPy or Dask array whose axes
        are the chain's dims; or its inverse into the dtype `inverse`, to an array whose axes are those of its output."""
        values = as_plain(values, self)
        check_dtype(values.dtype, self, inverse is not None)
        given, left = dims_of(self.chain, inverse is not None)
        axis = given.index(self.chain.sample_dim)
        single = values.ndim == len(given) - 1
        if single:
            values = values[(slice(None),) * axis + (None, ...)]
        check_sizes(values.shape, given, sizes, single)
        chain = chain_by(self, by, values.shape[axis])
        chain = chain.select(picked) if picked else chain
        result: Any
        if isinstance(values, np.ndarray):
            result = chain(values) if inverse is None else chain.inverse(values, dtype=inverse)
        else:
            from pipeline.inference.lazy import apply_lazily

            result = apply_lazily(values, chain, inverse, self.digest)
        return result[(slice(None),) * left.index(self.chain.sample_dim) + (0, ...)] if single else result
