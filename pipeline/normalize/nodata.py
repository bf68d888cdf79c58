"""Values that stand for missing ones: `nodata`.

Not here: what becomes of NaN in a fit (`fit.nan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BeforeValidator, Field

from pipeline.errors import ConfigError
from pipeline.normalize.names import Number, Numbers
from pipeline.normalize.step import FittedStep, Floats, Input, ParameterlessStep, room

EXACT_INTEGERS = 2.0**53


def _listed(given: object) -> object:
    """One number or several as a list of them, in which no whole number is one that float64 rounds."""
    plain = given.tolist() if isinstance(given, np.generic | np.ndarray) else given
    listed = [plain] if isinstance(plain, int | float) else plain
    if isinstance(listed, list | tuple) and any(isinstance(each, int) and not _is_exact(each) for each in listed):
        raise ValueError("numbers that float64 holds exactly")
    return listed


def _is_exact(number: int) -> bool:
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


class Nodata(ParameterlessStep):
    """Replace values that stand for missing ones by NaN, which no statistic counts and every step keeps.

    ``y = NaN where x is one of values, else x``. The term is GDAL's; CF conventions call such a value ``missing_value``. It
    is the first step of a chain: later steps, and every statistic, then see NaN, and what becomes of it is `fit.nan`.

    - A value of a floating source is rounded to the source's type first, as the stored values were; a whole number that
      float64 does not hold is refused.
    - NaN stays NaN; infinities stay infinite. The output needs a floating type.
    - Nothing is fitted, so constant features are nothing special.

    Inverse: NaN becomes `fill`; where there is none it stays NaN.

    Parameters
    ----------
    values : float or tuple of float
    fill : float, optional
        What the inverse puts where NaN is; by default the first of `values` where the source holds integers, which have no
        NaN of their own, and nothing elsewhere.

    Examples
    --------
    >>> Nodata(values=-9999).fit(None)(np.array([3.5, -9999.0]), ("sample",)).tolist()
    [3.5, nan]
    """

    name: ClassVar[str] = "nodata"
    summary: ClassVar[str] = (
        "Replace values that stand for missing ones by NaN, which no statistic counts and every step keeps."
    )
    formula: ClassVar[str] = "y = NaN where x is one of values, else x"
    reference: ClassVar[str] = "GDAL, nodata value; CF conventions, missing_value"
    inverse_note: ClassVar[str] = "NaN becomes fill: by default the first of values for integers, nothing for floats"

    values: Annotated[Numbers, BeforeValidator(_listed), Field(min_length=1)] = Field(
        description="a finite number, or a list of one or more"
    )
    fill: Number | None = Field(default=None, description="a finite number; by default the first of values for integers")

    def bind(self, given: Input) -> Self:
        """The same with `values` as the input's type holds them, and `fill` settled."""
        values = tuple(self._as_stored(value, given.dtype) for value in self.values)
        fill = values[0] if self.fill is None and given.dtype.kind in "biu" else self.fill
        return self.model_copy(update={"values": values, "fill": fill})

    def _as_stored(self, value: float, dtype: np.dtype[Any]) -> float:
        """`value` rounded to a floating dtype; ConfigError where no value of `dtype` can equal it."""
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                stored = float(np.array(value).astype(dtype))
            fits = np.isfinite(stored)
        else:
            stored = value
            low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
            fits = low <= value <= high and value.is_integer() and abs(value) < EXACT_INTEGERS
        if not fits:
            raise ConfigError(
                "a value that the data cannot hold",
                where=f"{self.name}.values",
                found=value,
                expected=f"a value of {dtype}, below 2^53",
            )
        return stored

    @property
    def function(self) -> type[FittedNodata]:
        return FittedNodata


@dataclass(frozen=True, eq=False)
class FittedNodata(FittedStep):
    """`Nodata`, which has no parameters."""

    step: Nodata

    def __call__(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        result = room(values, out)
        np.copyto(result, values)
        for each in self.step.values:
            np.copyto(result, np.nan, where=values == each)
        return result

    def inverse(self, values: Floats, dims: tuple[str, ...], out: Floats | None = None) -> Floats:
        if self.step.fill is None:
            return values
        result = room(values, out)
        np.copyto(result, values)
        np.copyto(result, self.step.fill, where=np.isnan(values))
        return result
