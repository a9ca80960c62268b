"""Numbers as text of two digits each, for the lab's page: a twentieth of a percent of their
range, or of a decade.

A code is what JSON holds of an array: {"low", "high", "log", "text"}. A number is two
digits n in base 64 of `text`, 0 <= n <= 4095, and stands for low + n (high - low) / 4095,
or with log for 10 to that power; "~~" is no number. The high digits of all numbers come
first, then the low ones: neighbours share their high digits, so that they compress.
static/digits.js reads it.
"""

from typing import Any

import numpy as np

# those of lrdlib.figures.phase
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
TOP = 64 * 64 - 1
DECADES = 9.0  # below the largest number of a log code, everything is 0
_LETTERS = np.frombuffer(DIGITS.encode(), np.uint8)


def encode(values: np.ndarray, *, log: bool = False) -> dict[str, Any]:
    """The code of an array, flattened. log: equal steps between logarithms, for positive
    numbers of many scales; what is not above 10^-9 of the largest is stored as that bound.

    The numbers are off by at most half a step, (high - low) / 8190; the smallest and the
    largest are exact to rounding.

    >>> encode(np.array([0.0, 0.5, 1.0, np.nan]))
    {'low': 0.0, 'high': 1.0, 'log': False, 'text': '0W_~00_~'}
    """
    x = np.asarray(values, np.float64).ravel()
    known = np.isfinite(x)
    if log:
        floor = x[known].max(initial=0.0) * 10**-DECADES or 1.0
        x = np.log10(np.maximum(np.where(known, x, floor), floor))
    ends = (x[known].min(), x[known].max()) if known.any() else (0.0, 0.0)
    low, high = (float(f"{end:.7g}") for end in ends)
    share = (np.where(known, x, low) - low) / (high - low or 1.0)
    whole = np.clip(np.rint(TOP * share), 0, TOP).astype(int)
    letters = np.stack([_LETTERS[whole // 64], _LETTERS[whole % 64]])
    letters[:, ~known] = ord("~")
    return {"low": low, "high": high, "log": log, "text": letters.tobytes().decode()}
