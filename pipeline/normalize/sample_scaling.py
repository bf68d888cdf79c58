"""Scaling within each sample by its own statistics: `sample_zscore`, `sample_minmax`.

Not here: scaling by statistics of all samples (`standard.py`, `minmax.py`), and to unit length (`unit_norm.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.normalize.linear import interpolate
from pipeline.normalize.names import Count, Range
from pipeline.normalize.step import Floats, ParameterlessStep
from pipeline.normalize.vectors import FittedVectorStep, VectorStep, refuse_infinite

LARGEST_EXPONENT = 1023


class SampleZScore(ParameterlessStep, VectorStep):
    """Center each sample on its own mean and divide it by its own standard deviation.

    ``y = (x - mean) / std``, both of the sample over `dims` together: by default all dims but the sample dim; without the
    channel each channel of each image is scaled by itself. The formula is that of TensorFlow's
    ``image.per_image_standardization`` without its lower bound on the standard deviation.

    - A constant sample becomes 0.
    - NaN stays NaN and is left out of mean and standard deviation.
    - A sample with an infinity has no mean: DataError says how many there are.
    - Rows are scaled by a power of two first, so no magnitude overflows or vanishes, and the mean is corrected by the mean of
      what it leaves, so that it may be far larger than the standard deviation.

    Inverse: none, the samples' means and standard deviations are not kept.

    Parameters
    ----------
    ddof : {0, 1}
        The variance is the sum of squared deviations divided by n - ddof.
    dims : tuple of str, optional
        The dims that mean and standard deviation are taken over; all but the sample dim where None.

    Examples
    --------
    >>> fitted = SampleZScore(dims=("x",)).fit(None)
    >>> fitted(np.array([[1.0, 3.0], [7.0, 7.0]]), ("image", "x")).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """

    name: ClassVar[str] = "sample_zscore"
    summary: ClassVar[str] = "Center each sample on its own mean and divide it by its own standard deviation."
    formula: ClassVar[str] = "y = (x - mean) / std, of the sample"
    reference: ClassVar[str] = "TensorFlow, image.per_image_standardization"
    inverse_note: ClassVar[str] = "none, the samples' means and standard deviations are not kept"

    ddof: Count = Field(default=0, ge=0, le=1, description="0 or 1")

    @property
    def function(self) -> type[FittedSampleZScore]:
        return FittedSampleZScore


@dataclass(frozen=True, eq=False)
class FittedSampleZScore(FittedVectorStep):
    """`SampleZScore`, which has no parameters."""

    step: SampleZScore

    def fill(self, rows: Floats, result: Floats) -> None:
        missing = np.isnan(rows)
        lowest, highest = _scaled(self, rows, result)
        counts = np.maximum(rows.shape[1] - missing.sum(axis=1), 1)
        for _ in range(2):
            np.copyto(result, 0.0, where=missing)
            np.subtract(result, _column(np.add.reduce(result, axis=1) / counts), out=result)
        np.copyto(result, 0.0, where=missing)
        squares = np.add.reduce(np.square(result), axis=1)
        varies = lowest < highest
        deviations = np.where(varies, np.sqrt(squares / np.maximum(counts - self.step.ddof, 1)), 1.0)
        np.divide(result, _column(deviations), out=result)
        np.copyto(result, 0.0, where=_column(~varies))
        np.copyto(result, np.nan, where=missing)

    @property
    def why_not_invertible(self) -> str:
        return "the samples' means and standard deviations are not kept"


class SampleMinMax(ParameterlessStep, VectorStep):
    """Map each sample's own smallest and largest value to the ends of a range.

    ``y = (x - min) / (max - min) * (b - a) + a``, min and max those of the sample over `dims` together: by default all dims
    but the sample dim; without the channel each channel of each image is scaled by itself. The smallest value becomes exactly
    a, the largest exactly b, and nothing leaves the range. The formula is that of scikit-learn's ``MinMaxScaler`` and
    of scikit-image's ``exposure.rescale_intensity``, sample by sample.

    - A constant sample becomes a.
    - NaN stays NaN and is left out of the extrema.
    - A sample with an infinity has no range: DataError says how many there are.

    Inverse: none, the samples' extrema are not kept.

    Parameters
    ----------
    range : (float, float)
        a and b, a < b.
    dims : tuple of str, optional
        The dims that the extrema are taken over; all but the sample dim where None.

    Examples
    --------
    >>> fitted = SampleMinMax(dims=("x",)).fit(None)
    >>> fitted(np.array([[1.0, 2.0, 5.0], [7.0, 7.0, 7.0]]), ("image", "x")).tolist()
    [[0.0, 0.25, 1.0], [0.0, 0.0, 0.0]]
    """

    name: ClassVar[str] = "sample_minmax"
    summary: ClassVar[str] = "Map each sample's own smallest and largest value to the ends of a range."
    formula: ClassVar[str] = "y = (x - min) / (max - min) * (b - a) + a, min and max of the sample"
    reference: ClassVar[str] = "scikit-learn, MinMaxScaler, on each sample; scikit-image, exposure.rescale_intensity"
    inverse_note: ClassVar[str] = "none, the samples' extrema are not kept"

    range: Range = Field(default=(0.0, 1.0), description="two finite numbers, the first below the second")

    @property
    def function(self) -> type[FittedSampleMinMax]:
        return FittedSampleMinMax


@dataclass(frozen=True, eq=False)
class FittedSampleMinMax(FittedVectorStep):
    """`SampleMinMax`, which has no parameters."""

    step: SampleMinMax

    def fill(self, rows: Floats, result: Floats) -> None:
        missing = np.isnan(rows)
        lowest, highest = _scaled(self, rows, result)
        np.subtract(result, _column(lowest), out=result)
        np.divide(result, _column(np.where(lowest < highest, highest - lowest, 1.0)), out=result)
        start, end = self.step.range
        interpolate(result, start, end - start, end)
        np.copyto(result, np.nan, where=missing)

    @property
    def why_not_invertible(self) -> str:
        return "the samples' extrema are not kept"


def _scaled(fitted: FittedVectorStep, rows: Floats, result: Floats) -> tuple[Floats, Floats]:
    """Write `rows` to `result`, each times the power of two that brings its largest magnitude near 1; minima and maxima then.

    NaN is left out; a row of nothing else has the extrema 0.
    """
    refuse_infinite(fitted.step, rows)
    largest = _extreme(np.fmax, np.abs(rows, out=result))
    _, exponents = np.frexp(largest)
    factors = np.ldexp(1.0, np.minimum(-exponents, LARGEST_EXPONENT))
    np.multiply(rows, _column(factors), out=result)
    return _extreme(np.fmin, result), _extreme(np.fmax, result)


def _extreme(function: np.ufunc, rows: Floats) -> Floats:
    """The extrema of rows without NaN: never −0, which might come or not by the order of comparing."""
    extremes: NDArray[np.float64] = function.reduce(rows, axis=1)
    return np.where(np.isnan(extremes), 0.0, extremes) + 0.0


def _column(numbers: NDArray[np.generic]) -> NDArray[np.generic]:
    return numbers[:, np.newaxis]
