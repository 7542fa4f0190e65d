"""Monthly prices of stocks and indices, without a download."""

import csv
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from seqjax import Dataset, Error, Series, register
from seqjax.errors import nearest
from seqjax.extras import needing


@register("dataset", "stocks")
@dataclass(frozen=True)
class Stocks(Dataset):
    """Prices at the beginning of each month from 1990 to 2022, from the sample data of matplotlib.

    The series of a company that was listed later starts with its first price.
    """

    column: str = "^GSPC"
    """The column: `^GSPC` is the S&P 500 index, `^IXIC` the NASDAQ Composite; the others are companies like `IBM`."""
    form: Literal["returns", "prices"] = "returns"
    """`returns` are the differences of the logarithm of the price from month to month; `prices` are the prices."""

    extra = "plot"
    sampler_fields: ClassVar = {"batch_size": 8, "num_steps": 10}
    of_values = True

    def load(self):
        """The series, float64[n, 1]."""
        with needing(self.extra, "dataset stocks"):
            from matplotlib.cbook import get_sample_data

        with open(get_sample_data("Stocks.csv", asfileobj=False), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
        columns = [name for name in rows[0] if name != "Date"]
        if self.column not in columns:
            raise Error(
                f"dataset stocks: there is no column {self.column!r}{nearest(self.column, columns)} "
                f"(columns: {', '.join(columns)})\nChoose one with --dataset.column"
            )
        months = [row for row in rows if row["Date"].endswith("-01")]  # the other dates are of dividends
        return Series(self._values(months), (self.column,), f"stocks {self.column}")

    def _values(self, months):
        prices = [row[self.column] for row in months]
        first = next(i for i, price in enumerate(prices) if price)
        missing = [row["Date"] for row in months[first:] if not row[self.column]]
        if missing:
            raise Error(f"dataset stocks: {self.column} has no price for {', '.join(missing)}; choose another column")
        values = np.array(prices[first:], np.float64)
        return values if self.form == "prices" else np.diff(np.log(values))
