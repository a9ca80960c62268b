"""Shares of seeds: an interval for one, and a test of two arms that share their seeds.

Both are exact and scipy's: pip install 'lrdlib[evidence]'.
"""

from typing import NamedTuple

from lrdlib._check import check_integer, check_real
from lrdlib.evidence.survival import scipy_stats


class Interval(NamedTuple):
    """An interval of a share."""

    low: float
    high: float


def binomial_interval(wins: int, of: int, level: float = 0.95) -> Interval:
    """The Clopper-Pearson interval of a share, wins / of: all shares that an exact binomial
    test, one half of 1 - level on either side, does not reject.

    Raises TypeError or ValueError unless 0 <= wins <= of, of >= 1 and 0 < level < 1;
    ImportError without scipy.

    >>> interval = binomial_interval(20, 20)
    >>> round(interval.low, 3), interval.high
    (0.832, 1.0)
    """
    check_integer("of", of, at_least=1)
    check_integer("wins", wins, at_least=0, at_most=of)
    check_real("level", level, above=0, below=1)
    found = scipy_stats().binomtest(wins, of).proportion_ci(level, method="exact")
    return Interval(float(found.low), float(found.high))


def sign_test(plus: int, minus: int) -> float:
    """The p of the sign test, of both sides: the chance of a split at least as uneven, if
    either sign is as likely. Ties are left out before; without any sign p is 1.

    Raises TypeError or ValueError for negative counts; ImportError without scipy.

    >>> sign_test(5, 0), sign_test(0, 0)
    (0.0625, 1.0)
    """
    check_integer("plus", plus, at_least=0)
    check_integer("minus", minus, at_least=0)
    if plus + minus == 0:
        return 1.0
    return float(scipy_stats().binomtest(plus, plus + minus).pvalue)
