"""The axes of a still (lrdlib/figures/still.py): which range a plotly axis shows, where a
value lies on it and which ticks it has, as plotly.js has them.

Where a figure gives a range or ticks, those are taken; else this follows plotly.js:
src/plots/cartesian/autorange.js (5 percent and half a marker beyond the data, nothing
beyond lines along x, bars from 0) and axes.js (autoTicks: steps of 1, 2 or 5 times a power
of ten). tests/test_book.py holds both against plotly in a browser.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Point = tuple[float, float]  # a value, and the pixels that it keeps clear around it
Tick = tuple[float, str]  # where on the axis, and its label


@dataclass(frozen=True)
class Axis:
    """An axis that runs from `start` to `end`, in CSS pixels from the left or the top edge
    of the plot, over `range` (of a log axis in powers of ten; of one with names, in their
    places)."""

    spec: Mapping[str, Any]
    start: float
    end: float
    range: tuple[float, float]
    names: Mapping[str, int] = field(default_factory=dict)

    def place(self, value: Any) -> float | None:
        """A value on the scale of the range; None for what has no place there."""
        return placed(value, self.spec, self.names)

    def pixel(self, place: float) -> float:
        """CSS pixels of a place.

        >>> Axis({}, 100, 0, (0, 2)).pixel(0.5)
        75.0
        """
        low, high = self.range
        return self.start + (self.end - self.start) * (place - low) / (high - low)

    def ticks(self) -> list[Tick]:
        """The ticks within the range."""
        low, high = sorted(self.range)
        slack = 1e-9 * (high - low)
        return [tick for tick in self._ticks() if low - slack <= tick[0] <= high + slack]

    def _ticks(self) -> Iterator[Tick]:
        spec, log = self.spec, self.spec.get("type") == "log"
        if "tickvals" in spec:
            places = [self.place(value) for value in spec["tickvals"]]
            step = spec["tickvals"][1] - spec["tickvals"][0] if len(places) > 1 else 1
            labels = spec.get("ticktext") or [
                self._label(v, step) for v in spec["tickvals"]
            ]
            yield from zip(places, labels, strict=True)
        elif self.names:
            yield from ((place, name) for name, place in self.names.items())
        elif log:
            yield from self._log_ticks()
        else:
            step = spec.get("dtick") or self._step()
            first = spec.get("tick0", 0)
            low, high = sorted(self.range)
            for n in range(
                math.ceil((low - first) / step - 1e-9),
                math.floor((high - first) / step + 1e-9) + 1,
            ):
                yield first + n * step, self._label(first + n * step, step)

    def _rough(self) -> float:
        """The step of as many ticks as have room."""
        length = abs(self.end - self.start)
        room = 80 if self.spec.get("anchor", "y")[0] == "y" else 40
        count = self.spec.get("nticks") or min(max(length / room, 4), 9) + 1
        return abs(self.range[1] - self.range[0]) / count

    def _step(self) -> float:
        base = 10.0 ** math.floor(math.log10(self._rough()))
        return next(m * base for m in (2, 5, 10, 20) if self._rough() < m * base)

    def _log_ticks(self) -> Iterator[Tick]:
        rough = self._rough()
        step = self.spec.get("dtick") or (math.ceil(rough) if rough > 0.7 else None)
        low, high = sorted(self.range)
        for power in range(math.floor(low), math.ceil(high) + 1):
            if not step or power % step == 0:
                yield power, self._power(power)
            for digit in () if step else (2, 5):
                yield power + math.log10(digit), str(digit)

    def _power(self, power: int) -> str:
        if self.spec.get("exponentformat") == "power":
            if power in (0, 1):
                return str(10**power)
            return f"10<sup>{power}</sup>".replace("-", "−")
        if power < -3:
            prefix = ("m", "μ", "n", "p")[-(power // 3) - 1]
            return f"{10 ** (power % 3)}{prefix}"
        return f"{10.0**power:g}" if power <= 3 else f"{10 ** (power - 3)}k"

    def _label(self, value: float, step: float) -> str:
        if form := self.spec.get("tickformat"):
            return format(value, form)
        largest = max(abs(end) for end in self.range)
        unit, prefix = (1000, "k") if largest >= 9772 else (1, "")  # log10 above 3.99
        text = f"{round(value / unit, 3 - math.floor(math.log10(step / unit))):f}"
        text = text.rstrip("0").rstrip(".")
        return "0" if abs(value) < 1e-9 * step else (text + prefix).replace("-", "−")


def placed(value: Any, spec: Mapping[str, Any], names: Mapping[str, int]) -> float | None:
    """Where a value lies on the scale of an axis: its logarithm to base 10 on a log axis, a
    name's place; None for what has no place.

    >>> placed(100, {"type": "log"}, {}), placed(0, {"type": "log"}, {})
    (2.0, None)
    """
    if isinstance(value, str):
        return names.get(value)
    if value is None or not math.isfinite(value):
        return None
    if spec.get("type") == "log":
        return math.log10(value) if value > 0 else None
    return value


def shown_range(
    spec: Mapping[str, Any],
    points: Sequence[Point],
    length: float,
) -> tuple[float, float]:
    """The range of an axis: its own, or the least one in which each of the points keeps
    its pixels clear on an axis of `length` pixels."""
    if spec.get("range"):
        return spec["range"][0], spec["range"][1]
    if not points:
        return (-1.0, 6.0)  # plotly's own, of an axis that nothing lies on
    scale, first, last = max(
        (
            ((b - a) / (length - before - after), (a, before), (b, after))
            for a, before in points
            for b, after in points
            if b > a and length > before + after
        ),
        default=(0.0, points[0], points[0]),
    )
    if not scale:
        return first[0] - 1, first[0] + 1
    if spec.get("rangemode") == "tozero":
        first = (0.0, 0.0) if first[0] >= 0 else first
        last = (0.0, 0.0) if last[0] <= 0 else last
        scale = (last[0] - first[0]) / (length - first[1] - last[1])
    low, high = first[0] - scale * first[1], last[0] + scale * last[1]
    return (high, low) if spec.get("autorange") == "reversed" else (low, high)
