"""When the rank falls below a part of its start, and when a network generalises: run by run,
and against the steps that the decay would take alone.

    groups = {"LRD 0.01": [run, ...], "L2": [run, ...]}
    clocks = {"LRD 0.01": {"1/2": 125, "1/4": 310}}  # steps of decay alone
    fall_figure(groups, clocks)

The rank is the mean stable rank of queries and keys, qk_stable_rank.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lrdlib._check import check_choice, check_instance, check_real, shown
from lrdlib.figures.canvas import INK, PALETTE, axes, canvas, finish, movable, rule_colours
from lrdlib.training.runs import Run

Groups = Mapping[str, Sequence[Run]]
Clocks = Mapping[str, Mapping[str, float]]

PARTS = {"1/2": 1 / 2, "1/4": 1 / 4, "1/8": 1 / 8}  # of the rank at the start
MOST = 5  # groups in one figure


def fall(run: Run, part: float) -> float:
    """The first recorded step at which the stable rank of queries and keys is below this
    part of its start, inf if there is none.

    Raises TypeError for anything but a Run, ValueError unless part > 0.
    """
    check_instance("run", run, Run)
    check_real("part", part, above=0)
    rank = run.history["qk_stable_rank"]
    return _first(run, rank < part * rank[0])


def learnt(run: Run, share: float = 0.5) -> float:
    """The first recorded step at which more than this share of the orbit-clean pairs is
    right, inf if there is none. Raises as `fall`."""
    check_instance("run", run, Run)
    check_real("share", share, at_least=0, below=1)
    return _first(run, run.history["orbit_clean_accuracy"] > share)


def order(runs: Sequence[Run], part: float, share: float = 0.5) -> tuple[int, int, int]:
    """Of the runs that learn (see `learnt`): how many lose rank (see `fall`) at an earlier
    record, at the same one, and at a later one or never."""
    both = [(fall(run, part), learnt(run, share)) for run in runs]
    pairs = [(lost, right) for lost, right in both if np.isfinite(right)]
    first = sum(lost < right for lost, right in pairs)
    same = sum(lost == right for lost, right in pairs)
    return first, same, len(pairs) - first - same


def fall_figure(groups: Groups, clocks: Clocks, *, start: str = "1/2") -> go.Figure:
    """Above, for each group that has a clock, by data fraction: the step at which the rank
    has fallen below a part of its start, the step at which half of the orbit-clean pairs
    are right (medians over the runs of a fraction), and the clock. Below, each run by the
    two steps. A slider goes through the parts of PARTS.

    clocks: group -> part -> steps that the decay alone takes. start: the part at first.
    Raises TypeError or ValueError unless there are groups of Runs, up to five, and every
    clock is of one of them and has all parts.
    """
    _check(groups, clocks)
    check_choice("start", start, PARTS)
    fig = canvas((250, 270))
    fig.add_traces(_above(groups, clocks, start) + _below(groups, start))
    frames = {part: _above(groups, clocks, part) + _below(groups, part) for part in PARTS}
    movable(fig, frames, prefix="rank below ", start=start)
    last = max(float(run.history["step"][-1]) for runs in groups.values() for run in runs)
    dotted = {"color": INK, "dash": "dot", "width": 1.5}
    for name, style in (
        ("rank falls", {"mode": "lines+markers", "line": {"color": INK}}),
        ("half are right", {"mode": "lines+markers"} | _dashed(INK)),
        ("decay alone", {"mode": "lines", "line": dotted}),
    ):
        fig.add_scatter(x=[None], y=[None], name=name, **style)
    fig.add_scatter(
        x=[0, last], y=[0, last], mode="lines", line=dotted, showlegend=False, row=2, col=1
    )
    axes(fig, "fraction of the pairs that is shown", "step")
    axes(fig, "step at which the rank falls", "step, half are right", row=2)
    fig.update_yaxes(range=[0, 1.03 * last])
    fig.update_xaxes(range=[0, 1.03 * last], row=2, col=1)
    return finish(fig, _words(groups, start))


def _first(run: Run, true: np.ndarray) -> float:
    return float(run.history["step"][true.argmax()]) if true.any() else np.inf


def _check(groups: Groups, clocks: Clocks) -> None:
    check_instance("groups", groups, Mapping)
    check_instance("clocks", clocks, Mapping)
    if not 0 < len(groups) <= MOST:
        raise ValueError(f"groups must be 1 to {MOST}, got {len(groups)}")
    for name, runs in groups.items():
        if not runs:
            raise ValueError(f"groups must hold at least one run each, got none in {name}")
        for run in runs:
            check_instance(f"groups[{name!r}]", run, Run)
    for name, steps in clocks.items():
        if name not in groups or set(steps) != set(PARTS):
            raise ValueError(
                f"clocks must map names of groups to steps for {', '.join(PARTS)}, got "
                f"{name!r}: {shown(dict(steps))}"
            )


def _colours(groups: Groups) -> list[str]:
    """The colour of each group: of the rule of its first run."""
    return rule_colours([runs[0].config for runs in groups.values()])


def _dashed(colour: str) -> dict[str, Any]:
    return {
        "line": {"color": colour, "dash": "dash"},
        "marker": {"symbol": "circle-open", "size": 8},
    }


def medians(runs: Sequence[Run], step: Callable[[Run], float]) -> dict[float, float]:
    """Data fraction -> the median step over its runs, of the fractions where it is
    finite: where more than half of the runs have such a step."""
    by_fraction: dict[float, list[float]] = {}
    for run in runs:
        by_fraction.setdefault(run.config["fraction"], []).append(step(run))
    found = {f: float(np.median(steps)) for f, steps in sorted(by_fraction.items())}
    return {f: median for f, median in found.items() if np.isfinite(median)}


def _above(groups: Groups, clocks: Clocks, part: str) -> list[go.Scatter]:
    traces = []
    for (name, runs), colour in zip(groups.items(), _colours(groups), strict=True):
        if name not in clocks:
            continue
        solid = {"line": {"color": colour}, "marker": {"size": 8}}
        for what, step, style in (
            ("rank falls", lambda run: fall(run, PARTS[part]), solid),
            ("half are right", learnt, _dashed(colour)),
        ):
            median = medians(runs, step)
            point = f"%{{x}} of the pairs<br>{what}: step %{{y}}<extra>{name}</extra>"
            traces.append(
                go.Scatter(
                    x=list(median),
                    y=list(median.values()),
                    mode="lines+markers",
                    showlegend=False,
                    hovertemplate=point,
                    **style,
                )
            )
        ends = [f(run.config["fraction"] for run in runs) for f in (min, max)]
        line = {"color": colour, "dash": "dot", "width": 1.5}
        y, quiet = [clocks[name][part]] * 2, {"showlegend": False, "hoverinfo": "skip"}
        traces.append(go.Scatter(x=ends, y=y, mode="lines", line=line, **quiet))
    return traces


def _below(groups: Groups, part: str) -> list[go.Scatter]:
    traces = []
    for (name, runs), colour in zip(groups.items(), _colours(groups), strict=True):
        found = [(fall(run, PARTS[part]), learnt(run), run.config) for run in runs]
        there = [(x, y, c) for x, y, c in found if np.isfinite(x) and np.isfinite(y)]
        traces.append(
            go.Scatter(
                x=[x for x, _, _ in there],
                y=[y for _, y, _ in there],
                text=[
                    f"{c['fraction']:.0%} of the pairs, seed {c['seed']}" for *_, c in there
                ],
                hovertemplate="%{text}<br>rank falls at %{x}<br>half are right at %{y}",
                name=name,
                mode="markers",
                marker={"color": colour, "size": 10, "opacity": 0.75},
                xaxis="x2",
                yaxis="y2",
            )
        )
    return traces


def _words(groups: Groups, start: str) -> str:
    """The text alternative: how often the rank falls first, at each part."""
    texts = []
    for name, runs in groups.items():
        counts = ", ".join(f"{order(runs, p)[0]} below {part}" for part, p in PARTS.items())
        texts.append(f"{name}, {sum(order(runs, 1 / 2))} runs that learn: {counts}")
    return (
        "Steps at which the rank of queries and keys falls below a part of its start, and "
        "at which half of the orbit-clean pairs are right, by data fraction above and "
        f"against each other below. A slider sets the part; it stands at {start}. The rank "
        f"falls first in so many runs: {'; '.join(texts)}."
    )


def alive(run: Run, matrix: str, part: float = 0.01) -> np.ndarray:
    """How many singular values of a matrix are above this part of the largest, at each
    record: (records,). Raises TypeError for anything but a Run, KeyError for a matrix whose
    spectra it does not hold."""
    check_instance("run", run, Run)
    S = run.spectra[matrix]  # (records, n)
    return (part * S[:, :1] < S).sum(1)


def saw_figure(run: Run, matrix: str) -> go.Figure:
    """By step: above, the singular values of a matrix that are above a hundredth of the
    largest, counted; below, the test accuracy. Raises as `alive`."""
    count = alive(run, matrix)
    fig = canvas((200, 200), shared=True)
    curves = {"values alive": count, "test accuracy": run.history["test_accuracy"]}
    for row, (name, values) in enumerate(curves.items(), 1):
        line = {"color": PALETTE[row - 1]}
        fig.add_scatter(
            x=run.history["step"], y=values, mode="lines", line=line, row=row, col=1
        )
        axes(fig, "step" if row == 2 else "", name, row=row)
    fig.update_layout(showlegend=False)
    return finish(
        fig,
        f"By step, the number of singular values alive, {count[0]} at the start and "
        f"{count.min()} at the least, and the test accuracy below it.",
    )
