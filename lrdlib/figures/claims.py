"""Verdicts that depend on a threshold, as a picture that the reader moves.

    threshold_verdicts({"LRD": shares, "L2": shares}, judged=("LRD", "L2"), cut=0.9)

Each number is of one run; a line is the share of runs below the threshold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lrdlib._check import check_choice, check_instance, check_real, shown
from lrdlib.figures.canvas import INK, PALETTE, axes, canvas, finish, movable

THRESHOLDS = (0.9, 0.75, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.0625)
DASHES = ("solid", "dash")  # of those that are judged, and of the others


def threshold_verdicts(
    values: Mapping[str, ArrayLike],
    *,
    judged: Sequence[str],
    cut: float,
    prefix: str,
    start: float = 0.5,
) -> go.Figure:
    """The share of runs whose number is below a threshold, by the threshold (log), a line
    for each group; a mark stands on each line where the slider is.

    values: by group, (n,), all above 0. judged: the groups of the verdict, which the line
    above the picture gives at the slider's threshold: a group passes with a share of `cut`,
    dotted, or more. Groups whose names begin alike have one colour. prefix: what the slider
    says before its threshold; start: one of THRESHOLDS. Raises TypeError or ValueError for
    other things.
    """
    check_instance("values", values, Mapping)
    arrays = {name: np.asarray(x, float) for name, x in values.items()}
    for name, x in arrays.items():
        if x.ndim != 1 or not x.size or not (x > 0).all():
            raise ValueError(f"values[{name!r}] must hold numbers > 0, got {shown(x)}")
    for name in judged:
        check_choice("judged", name, tuple(arrays))
    check_real("cut", cut, above=0, below=1)
    check_choice("start", start, THRESHOLDS)

    fig = canvas([300])
    frames = {f"{at:g}": _marks(arrays, judged, cut, at) for at in THRESHOLDS}
    fig.add_traces(frames[f"{start:g}"])
    movable(fig, frames, prefix=prefix, start=f"{start:g}")
    fig.add_traces(_lines(arrays, judged))
    fig.add_hline(cut, line={"color": INK, "width": 1, "dash": "dot"})
    axes(fig, "threshold, as a share of the first rank", "share of runs below it")
    ticks = (0.9, 0.5, 0.25, 0.125, 0.0625)
    fig.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{x:g}" for x in ticks])
    fig.update_xaxes(range=[np.log10(1.0), np.log10(0.052)])
    fig.update_yaxes(range=[-0.04, 1.2], tickvals=[0, 0.25, 0.5, 0.75, 1])
    fig.update_yaxes(tickformat=".0%")
    texts = [
        f"{name}: " + ", ".join(f"{_share(x, at):.0%} below {at:g}" for at in ticks)
        for name, x in arrays.items()
    ]
    return finish(
        fig,
        f"The share of runs below a threshold, by the threshold; the slider moves it. "
        f"{'; '.join(texts)}. At {start:g}: {verdict_line(arrays, judged, cut, start)}.",
    )


def verdict_line(
    values: Mapping[str, np.ndarray], judged: Sequence[str], cut: float, at: float
) -> str:
    """The verdict at a threshold: holds if all judged groups pass, in part if one does.

    >>> verdict_line({"LRD": np.array([0.1]), "L2": np.array([0.4])}, ["LRD", "L2"], 0.9, 0.25)
    'holds in part (LRD 100%, L2 0%)'
    """
    shares = {name: _share(values[name], at) for name in judged}
    passed = [share >= cut for share in shares.values()]
    word = "holds" if all(passed) else "holds in part" if any(passed) else "does not hold"
    numbers = ", ".join(f"{name} {100 * share:.3g}%" for name, share in shares.items())
    return f"{word} ({numbers})"


def _share(x: np.ndarray, at: float) -> float:
    return float((x < at).mean())


def _colour(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The colour of a group: of its first word."""
    first = list(dict.fromkeys(one.split()[0].rstrip(",") for one in arrays))
    known = {"L2": PALETTE[0], "LRD": PALETTE[1]}
    word = name.split()[0].rstrip(",")
    return known.get(word, PALETTE[(first.index(word) + 2) % len(PALETTE)])


def _lines(arrays: Mapping[str, np.ndarray], judged: Sequence[str]) -> list[go.Scatter]:
    at = np.geomspace(1.0, 0.05, 60)
    return [
        go.Scatter(
            x=at.round(4).tolist(),
            y=[round(_share(x, one), 4) for one in at],
            name=name,
            mode="lines",
            line={
                "color": _colour(name, arrays),
                "dash": DASHES[name not in judged],
                "width": 2,
            },
            hovertemplate=f"{name}<br>%{{y:.0%}} below %{{x:.2g}}<extra></extra>",
        )
        for name, x in arrays.items()
    ]


def _marks(
    arrays: Mapping[str, np.ndarray], judged: Sequence[str], cut: float, at: float
) -> list[go.Scatter]:
    """The mark of each group at a threshold, and the verdict's line of text."""
    shared: dict[str, Any] = {"showlegend": False, "hoverinfo": "skip"}
    marks = [
        go.Scatter(
            x=[at],
            y=[round(_share(x, at), 4)],
            mode="markers",
            marker={"size": 11, "color": _colour(name, arrays)},
            **shared,
        )
        for name, x in arrays.items()
    ]
    words = go.Scatter(
        x=[0.2],
        y=[1.12],
        mode="text",
        text=[f"<b>{verdict_line(arrays, judged, cut, at).partition(' (')[0]}</b>"],
        textfont={"size": 15, "color": INK},
        **shared,
    )
    return [*marks, words]
