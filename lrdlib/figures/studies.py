"""The studies' runs in, pictures out: when arms generalise, and with which rank.

What is drawn is given as stops of a slider, each with its arms, each with its runs:

    stops = {"0.3": {"L2": [run, ...], "LRD": [run, ...]}, "0.4": {...}}
    survival_figure(stops, prefix="fraction ")

Colour is the rule (see canvas.RULE_COLOURS), a dash or a symbol what else sets an arm apart.
T_gen is that of lrdlib.evidence.studies.generalised. Each figure carries a text
alternative, written from its data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lrdlib._check import check_choice, check_instance, shown
from lrdlib.evidence.results import mean_instability
from lrdlib.evidence.studies import OUTCOME, generalised
from lrdlib.evidence.survival import (
    GENERALISED,
    area_under_roc,
    confirmed_best,
    followed,
    kaplan_meier,
    rmst,
)
from lrdlib.figures.canvas import (
    GRID,
    INK,
    PALETTE,
    RULE_COLOURS,
    axes,
    canvas,
    finish,
    movable,
    rule_of,
)
from lrdlib.figures.draw import numbers
from lrdlib.training.runs import Run

Stops = Mapping[str, Mapping[str, Sequence[Run]]]
Arms = Mapping[str, Sequence[Run]]

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # of the arms of one rule
SYMBOLS = ("circle", "diamond-open", "square", "triangle-up-open", "x-thin-open", "star")
RANK = "qk_stable_rank"
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)  # ticks
SHARES = (0, 0.25, 0.5, 0.75, 1)
NEVER = 1.12  # times the last step: where a run that never generalises is drawn
BINS = 26


def survival_figure(stops: Stops, *, prefix: str, start: str | None = None) -> go.Figure:
    """Above, the share of an arm's runs that have not generalised, by step (Kaplan-Meier);
    below, of each arm, the RMST across and its instability up. A slider goes from stop to
    stop.

    Instability is the mean share of records after T_gen that are below 95% again; an arm of
    which no run generalises has none, and no mark. prefix, start: as `canvas.movable`.
    Raises TypeError or ValueError unless every stop has the same arms, of 1 Run or more,
    all followed to the same step.
    """
    at = _first_stop(stops, prefix, start)
    shown_first = stops[at]
    last = _last_step(shown_first)
    fig = canvas([270, 170], 1)
    above, below = _survival_traces(shown_first)
    fig.add_traces(above, rows=1, cols=1)
    fig.add_traces(below, rows=2, cols=1)
    frames = {
        name: [trace for part in _survival_traces(arms) for trace in part]
        for name, arms in stops.items()
    }
    for traces in frames.values():
        for trace in traces[len(shown_first) :]:
            trace.update(xaxis="x2", yaxis="y2")
    movable(fig, frames, prefix=prefix, start=start)
    fig.add_traces(_key(shown_first))
    axes(fig, "step", "share not generalised yet", row=1)
    axes(fig, "steps before it generalises (RMST)", "instability", row=2)
    fig.update_xaxes(range=[0, 1.02 * last])
    fig.update_yaxes(range=[-0.03, 1.05], tickvals=SHARES)
    texts = [
        f"{name}: {_won(runs)} of {len(runs)} generalise by step {last:g}, RMST "
        f"{_rmst(runs):.0f}, instability {_percent(mean_instability(runs))}"
        for name, runs in shown_first.items()
    ]
    alt = (
        f"Curves of the share of runs that have not generalised, by step, and below them "
        f"how unstable each arm is. {_moved(prefix, stops)} At "
        f"{prefix}{at}: {'; '.join(texts)}."
    )
    return finish(fig, alt)


def threshold_figure(stops: Stops, *, prefix: str, start: str | None = None) -> go.Figure:
    """The share of an arm's runs whose orbit-clean accuracy is above a threshold at two
    records in a row, by the threshold. A slider goes from stop to stop.

    At 0.95 it is the share that generalises. prefix, start: as `canvas.movable`. Raises as
    `survival_figure`.
    """
    fig, at = _by_stop(300, stops, _threshold_traces, prefix, start)
    axes(fig, "threshold", "share of runs that pass it twice in a row")
    fig.update_xaxes(range=[0, 1])
    fig.update_yaxes(range=[-0.03, 1.05], tickvals=SHARES)
    fig.add_vline(GENERALISED, line={"color": INK, "width": 1, "dash": "dot"})
    best = {
        name: [confirmed_best(run.history[OUTCOME]) for run in runs]
        for name, runs in stops[at].items()
    }
    texts = [
        f"{name}: the best run passes {max(reached):.2f}, the worst {min(reached):.2f}"
        for name, reached in best.items()
    ]
    alt = (
        f"Share of runs whose orbit-clean accuracy passes a threshold at two records in a "
        f"row, by the threshold. {_moved(prefix, stops)} At {prefix}{at}: "
        f"{'; '.join(texts)}."
    )
    return finish(fig, alt)


def rank_figure(stops: Stops, *, prefix: str, start: str | None = None) -> go.Figure:
    """Each run as a mark: the stable rank of queries and keys at its end across (log), T_gen
    up, on a line of their own those that never generalise. A slider goes from stop to stop.

    Marks of the last line are spread, so that runs of one rank do not hide each other.
    prefix, start: as `canvas.movable`. Raises as `survival_figure`.
    """
    fig, at = _by_stop(330, stops, _rank_traces, prefix, start)
    shown_first = stops[at]
    last = _last_step(shown_first)
    axes(fig, "stable rank of Q and K at the end", "step T<sub>gen</sub>")
    fig.update_xaxes(type="log", range=[-0.05, 2.2], tickvals=RANKS)
    steps = [*range(0, int(last) + 1, 1000), NEVER * last]
    words = [*(str(step) for step in steps[:-1]), "never"]
    fig.update_yaxes(range=[0, 1.22 * last], tickvals=steps, ticktext=words)
    fig.add_hline(1.02 * last, line={"color": GRID, "width": 1})
    texts = [
        f"{name}: {_won(runs)} of {len(runs)} generalise, rank at the end "
        f"{np.median([run.history[RANK][-1] for run in runs]):.3g} in the median"
        for name, runs in shown_first.items()
    ]
    alt = (
        f"Each run by the stable rank of its queries and keys at the end and by the step at "
        f"which it generalises. {_moved(prefix, stops)} At "
        f"{prefix}{at}: {'; '.join(texts)}."
    )
    return finish(fig, alt)


def course_figure(
    stops: Mapping[str, Sequence[Run]], *, prefix: str, start: str | None = None
) -> go.Figure:
    """Orbit-clean accuracy by step above, the stable rank of queries and keys below (log),
    one line per run. A slider goes from stop to stop.

    prefix, start: as `canvas.movable`. Raises as `survival_figure`, and ValueError unless
    every stop has as many runs.
    """
    check_instance("stops", stops, Mapping)
    named = {
        stop: {f"seed {run.config['seed']}": [run] for run in runs}
        for stop, runs in stops.items()
    }
    first = list(stops[_first_stop(named, prefix, start)])
    fig = canvas([200, 200], 1, shared=True)
    for trace in _course_traces(first):
        fig.add_trace(trace)
    frames = {name: _course_traces(runs) for name, runs in stops.items()}
    movable(fig, frames, prefix=prefix, start=start)
    axes(fig, "", "orbit-clean accuracy", row=1)
    axes(fig, "step", "QK stable rank", row=2)
    fig.update_yaxes(range=[-0.03, 1.05], tickvals=SHARES, row=1)
    fig.update_yaxes(type="log", range=[-0.05, 2.2], tickvals=RANKS[::2], row=2)
    texts = [
        f"{name}: " + ", ".join(_course_text(run) for run in runs)
        for name, runs in stops.items()
    ]
    alt = (
        f"Accuracy and rank by step of {len(first)} seeds. {_moved(prefix, stops)} "
        f"{'; '.join(prefix + text for text in texts)}."
    )
    return finish(fig, alt)


def outcome_figure(
    values: Mapping[str, ArrayLike],
    success: ArrayLike,
    *,
    prefix: str = "",
    start: str | None = None,
) -> go.Figure:
    """How a number is spread among runs that generalise (filled), and among those that do
    not (a line): the share of either in each of BINS bins, equal on a log scale. A slider
    goes from number to number, and says its area under the ROC curve.

    values: by name, (n,), all above 0; success (n,), booleans. prefix, start: as
    `canvas.movable`. Raises TypeError or ValueError for other things.
    """
    check_instance("values", values, Mapping)
    if not values:
        raise ValueError("values must hold at least one array of numbers, got none")
    check_instance("prefix", prefix, str)
    check_choice("start", start, (None, *values))
    area = {name: area_under_roc(x, success) for name, x in values.items()}
    won = np.asarray(success)
    arrays = {name: np.asarray(x, float) for name, x in values.items()}
    if won.all() or not won.any():
        raise ValueError(f"success must hold both True and False, got {shown(success)}")
    for name, x in arrays.items():
        if not (x > 0).all():
            raise ValueError(f"values[{name!r}] must hold numbers > 0, got {shown(x)}")
    every = np.log10(np.concatenate(list(arrays.values())))
    edges = np.linspace(every.min() - 0.01, every.max() + 0.01, BINS + 1)
    frames = {
        f"{name}: area {area[name]:.2f}": _outcome_traces(np.log10(x), won, edges)
        for name, x in arrays.items()
    }
    at = 0 if start is None else list(arrays).index(start)
    label = list(frames)[at]
    fig = canvas([300])
    fig.add_traces(frames[label])
    movable(fig, frames, prefix=prefix, start=label)
    axes(fig, "rank", "share of the runs, %")
    fig.update_xaxes(type="log", range=[edges[0], edges[-1]], tickvals=RANKS)
    fig.update_yaxes(rangemode="tozero")
    at_first = list(arrays.values())[at]
    middle = [np.quantile(at_first[some], (0.25, 0.75)) for some in (won, ~won)]
    spread = [f"{low:.3g} and {high:.3g}" for low, high in middle]
    alt = (
        f"How ranks are spread among {won.sum()} runs that generalise and {(~won).sum()} "
        f"that do not. {list(arrays)[at]}: half of the first lie between {spread[0]}, half "
        f"of the others between {spread[1]}. Area under the ROC curve, 0.5 if the rank tells "
        f"nothing: {'; '.join(f'{name} {a:.2f}' for name, a in area.items())}."
    )
    return finish(fig, alt)


# ---- traces


def _by_stop(
    height: int,
    stops: Stops,
    traces: Callable[[Arms], list[go.Scatter]],
    prefix: str,
    start: str | None,
) -> tuple[go.Figure, str]:
    """One panel whose traces a slider moves from stop to stop, and the stop at which it
    stands."""
    at = _first_stop(stops, prefix, start)
    fig = canvas([height])
    fig.add_traces(traces(stops[at]))
    frames = {name: traces(arms) for name, arms in stops.items()}
    return movable(fig, frames, prefix=prefix, start=start), at


def _survival_traces(arms: Arms) -> tuple[list[go.Scatter], list[go.Scatter]]:
    """A curve for each arm, and its mark of RMST and instability."""
    curves, marks = [], []
    last = _last_step(arms)
    for (name, runs), style in zip(arms.items(), _styles(arms), strict=True):
        curve = kaplan_meier(followed(_times(runs), last))
        line = {
            "color": style["color"],
            "dash": style["dash"],
            "width": 2.25,
            "shape": "hv",
        }
        said = f"{name}<br>step %{{x}}: %{{y:.0%}} not yet<extra></extra>"
        curves.append(
            go.Scatter(
                x=[*curve.step.tolist(), last],
                y=[*curve.share.tolist(), float(curve.share[-1])],
                name=name,
                mode="lines",
                line=line,
                legendgroup=name,
                showlegend=False,
                hovertemplate=said,
            )
        )
        shaky = mean_instability(runs)
        said = f"{name}<br>RMST %{{x:.0f}}, instability %{{y:.0%}}<extra></extra>"
        marks.append(
            go.Scatter(
                x=[_rmst(runs)],
                y=[None if math.isnan(shaky) else round(shaky, 4)],
                mode="markers",
                marker=_marker(style, 11),
                legendgroup=name,
                showlegend=False,
                cliponaxis=False,
                hovertemplate=said,
            )
        )
    return curves, marks


def _key(arms: Arms) -> list[go.Scatter]:
    """The legend of arms that are drawn as a line here and as a mark there."""
    return [
        go.Scatter(
            x=[None],
            y=[None],
            name=name,
            mode="lines+markers",
            line={"color": style["color"], "dash": style["dash"]},
            marker=_marker(style, 8),
            legendgroup=name,
            hoverinfo="skip",
        )
        for name, style in zip(arms, _styles(arms), strict=True)
    ]


def _threshold_traces(arms: Arms) -> list[go.Scatter]:
    """A curve of steps down for each arm, from the shares of its runs."""
    traces = []
    for (name, runs), style in zip(arms.items(), _styles(arms), strict=True):
        passed = sorted(round(confirmed_best(run.history[OUTCOME]), 4) for run in runs)
        left = [1 - i / len(runs) for i in range(len(runs) + 1)]
        traces.append(
            go.Scatter(
                x=[0.0, *passed, 1.0],
                y=[1.0, *(round(share, 4) for share in left[1:]), 0.0],
                name=name,
                mode="lines",
                line={"color": style["color"], "dash": style["dash"], "shape": "hv"},
                hovertemplate=f"{name}<br>%{{y:.0%}} pass %{{x:.2f}}<extra></extra>",
            )
        )
    return traces


def _rank_traces(arms: Arms) -> list[go.Scatter]:
    """A cloud of marks for each arm."""
    traces = []
    last = _last_step(arms)
    for i, ((name, runs), style) in enumerate(
        zip(arms.items(), _styles(arms), strict=True)
    ):
        T = _times(runs)
        spread = last * 0.14 * ((i + 0.5) / len(arms) - 0.5)  # of those that never do
        traces.append(
            go.Scatter(
                x=[round(float(run.history[RANK][-1]), 3) for run in runs],
                y=[NEVER * last + spread if math.isinf(t) else t for t in T],
                text=[
                    f"{name}, seed {run.config['seed']}<br>"
                    f"{'never' if math.isinf(t) else f'at step {t:g}'}; rank "
                    f"{run.history[RANK][0]:.3g} to {run.history[RANK][-1]:.3g}"
                    for run, t in zip(runs, T, strict=True)
                ],
                name=name,
                mode="markers",
                marker=_marker(style, 9),
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return traces


def _course_traces(runs: Sequence[Run]) -> list[go.Scatter]:
    """A line of accuracy for each run, then one of rank for each."""
    traces = []
    for metric, axis in ((OUTCOME, ""), (RANK, "2")):
        for run, dash in zip(runs, cycle(DASHES), strict=False):
            name = f"seed {run.config['seed']}"
            traces.append(
                go.Scatter(
                    x=run.history["step"].tolist(),
                    y=numbers(run.history[metric]),
                    name=name,
                    mode="lines",
                    line={
                        "color": RULE_COLOURS[rule_of(run.config)],
                        "dash": dash,
                        "width": 2,
                    },
                    legendgroup=name,
                    showlegend=metric == OUTCOME,
                    xaxis=f"x{axis}",
                    yaxis=f"y{axis}",
                    hovertemplate=f"{name}<br>step %{{x}}: %{{y:.3~g}}<extra></extra>",
                )
            )
    return traces


def _outcome_traces(x: np.ndarray, won: np.ndarray, edges: np.ndarray) -> list[go.Scatter]:
    """The shares of successes and of failures in each bin, in percent."""
    traces = []
    for name, some, line, fill in (
        ("generalise", x[won], {"color": PALETTE[3]}, "tozeroy"),
        ("do not", x[~won], {"color": INK, "dash": "dash"}, "none"),
    ):
        share = 100 * np.histogram(some, edges)[0] / max(len(some), 1)  # (BINS,)
        traces.append(
            go.Scatter(
                x=[float(f"{10**edge:.4g}") for edge in edges],
                y=[*(round(float(s), 2) for s in share), 0.0],
                name=name,
                mode="lines",
                line=line | {"width": 2, "shape": "hv"},
                fill=fill,
                hovertemplate=f"{name}: %{{y:.1f}}% from %{{x:.3~g}}<extra></extra>",
            )
        )
    return traces


# ---- what tells arms apart


def _styles(arms: Arms) -> list[dict[str, str]]:
    """Colour, dash and symbol of each arm: the colour is the rule's, the rest counts the
    arms of this rule, on whatever matrices."""
    seen: dict[str, int] = {}
    styles = []
    for runs in arms.values():
        rule = rule_of(runs[0].config)
        base = rule.partition(" on ")[0]
        k = seen[base] = seen.get(base, -1) + 1
        dash, symbol = DASHES[k % len(DASHES)], SYMBOLS[k % len(SYMBOLS)]
        styles.append({"color": RULE_COLOURS[rule], "dash": dash, "symbol": symbol})
    return styles


def _marker(style: Mapping[str, str], size: int) -> dict[str, Any]:
    look = {"color": style["color"], "symbol": style["symbol"], "size": size}
    return look | {"opacity": 0.85, "line": {"width": 2, "color": style["color"]}}


# ---- numbers and words


def _times(runs: Sequence[Run]) -> list[float]:
    """T_gen of each run, inf for never."""
    return [generalised(run) for run in runs]


def _won(runs: Sequence[Run]) -> int:
    return sum(math.isfinite(T) for T in _times(runs))


def _rmst(runs: Sequence[Run]) -> float:
    last = float(runs[0].history["step"][-1])
    return rmst(followed(_times(runs), last), last)


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{share:.0%}"


def _course_text(run: Run) -> str:
    """When a run generalises, and from where to where its rank goes."""
    (T,), rank = _times([run]), run.history[RANK]
    when = "never" if math.isinf(T) else f"at step {T:g}"
    return f"seed {run.config['seed']} {when}, rank {rank[0]:.3g} to {rank[-1]:.3g}"


def _moved(prefix: str, stops: Mapping[str, Any]) -> str:
    return f"The slider goes through {prefix.strip()} {', '.join(stops)}."


def _last_step(arms: Arms) -> float:
    return float(next(iter(arms.values()))[0].history["step"][-1])


def _first_stop(stops: Stops, prefix: str, start: str | None) -> str:
    """The stop that is shown first: start, or the first one. One clear error for what is no
    Stops, no prefix, and no stop."""
    check_instance("stops", stops, Mapping)
    if not stops:
        raise ValueError("stops must hold at least one stop, got none")
    names: list[str] | None = None
    lasts = set()
    for stop, arms in stops.items():
        check_instance(f"stops[{stop!r}]", arms, Mapping)
        names = list(arms) if names is None else names
        if not arms or list(arms) != names:
            raise ValueError(
                f"stops must all have the arms {names}, got {list(arms)} at {stop!r}"
            )
        for name, runs in arms.items():
            if not isinstance(runs, Sequence) or not runs:
                raise ValueError(
                    f"stops[{stop!r}][{name!r}] must list at least one Run, got {shown(runs)}"
                )
            for run in runs:
                check_instance(f"stops[{stop!r}][{name!r}]", run, Run)
                lasts.add(int(run.history["step"][-1]))
    if len(lasts) > 1:
        raise ValueError(f"stops must hold runs of one length, got {sorted(lasts)} steps")
    check_instance("prefix", prefix, str)
    check_choice("start", start, (None, *stops))
    return next(iter(stops)) if start is None else start
