"""Scaling integers by what their type can hold: the division by 255 of every image tutorial.

Not here: scaling by what the data holds (`minmax.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from pipeline.dtypes import IntegerName
from pipeline.errors import ConfigError
from pipeline.normalize.linear import interpolate
from pipeline.normalize.names import Range
from pipeline.normalize.step import FittedStep, Floats, Input, ParameterlessStep, room


class DtypeRange(ParameterlessStep):
    """Scale integers by what their type can hold, without fitting anything.

    Unsigned: ``y = x / max``, in [0, 1]. Signed: ``y = x / -min``, in [-1, 1). With a range ``[a, b]``:
    ``y = (x - min) / (max - min) * (b - a) + a``, where min and max are the type's, and become exactly a and b.
    Booleans are 0 and 1. The formulas are those of torchvision's ``ToTensor`` and scikit-image's ``img_as_float``, but that
    int16's -32768 is -1 and its 32767 just below 1.

    - Statistics play no part, so constant and all-NaN features are nothing special.
    - Where the values are floats and `dtype` was named, NaN stays NaN and infinities stay infinite.
    - 64-bit integers are rounded to float64 first, their type's extrema as well.
    - Floats without a named `dtype` raise ConfigError.

    Inverse: the formula solved for x, then rounded to the nearest integer where the input was one.

    Parameters
    ----------
    range : (float, float), optional
        a and b, a < b.
    dtype : str, optional
        The integer type that is meant; by default the source's. For example `uint8` where bytes are stored as float32.

    Examples
    --------
    >>> step = DtypeRange(dtype="uint8")
    >>> step.fit(None)(np.array([0.0, 51.0, 255.0]), ("sample",)).tolist()
    [0.0, 0.2, 1.0]
    """

    name: ClassVar[str] = "dtype_range"
    summary: ClassVar[str] = "Scale integers by what their type can hold, without fitting anything."
    formula: ClassVar[str] = "y = x / max (unsigned), x / -min (signed), or the type's whole range to [a, b]"
    reference: ClassVar[str] = "torchvision, ToTensor; scikit-image, img_as_float"
    inverse_note: ClassVar[str] = "exact for integers of 32 bits or fewer"

    range: Range | None = Field(default=None, description="two finite numbers, the first below the second")
    dtype: IntegerName | None = Field(default=None, description="bool, or int or uint with 8, 16, 32 or 64, such as uint8")

    @property
    def is_affine(self) -> bool:
        return True

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value of the type, as float64."""
        if self.dtype is None:
            raise TypeError("dtype_range is not bound to a dtype")
        if self.dtype == "bool":
            return 0.0, 1.0
        limits = np.iinfo(self.dtype)
        return float(limits.min), float(limits.max)

    def bind(self, given: Input) -> Self:
        """The same with `dtype` settled."""
        if self.dtype is not None:
            return self
        if given.dtype.kind not in "biu":
            raise ConfigError(
                "dtype_range needs integers",
                where=self.name,
                found=f"{given.dtype} values",
                expected="an integer or bool array, and no step before this one",
                remedy="use minmax, which takes the range from the data, or name the integer type that is meant: dtype: uint8",
            )
        return self.model_copy(update={"dtype": given.dtype.name})

    @property
    def function(self) -> type[FittedDtypeRange]:
        return FittedDtypeRange


@dataclass(frozen=True, eq=False)
class FittedDtypeRange(FittedStep):
    """`DtypeRange`, which has no parameters."""

    step: DtypeRange

    @property
    def _divisor(self) -> float:
        """What is divided by where no range was asked for."""
        low, high = self.step.ends
        return -low if low < 0 else high

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        if self.step.range is None:
            return np.divide(values, self._divisor, out=room(values, out))
        low, high = self.step.ends
        start, end = self.step.range
        fraction = np.subtract(values, low, out=room(values, out))
        np.divide(fraction, high - low, out=fraction)
        return interpolate(fraction, start, end - start, end)

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        if self.step.range is None:
            return np.multiply(values, self._divisor, out=room(values, out))
        low, high = self.step.ends
        start, end = self.step.range
        fraction = np.subtract(values, start, out=room(values, out))
        np.divide(fraction, end - start, out=fraction)
        return interpolate(fraction, low, high - low, high)

    @property
    def affine(self) -> tuple[Floats, Floats, Floats]:
        if self.step.range is None:
            return np.asarray(0.0), np.asarray(1.0 / self._divisor), np.asarray(0.0)
        low, high = self.step.ends
        start, end = self.step.range
        return np.asarray(low), np.asarray((end - start) / (high - low)), np.asarray(start)
