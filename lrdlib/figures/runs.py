"""Run(s) in, plotly figure out: never trains, never reads a file.

Every figure is transparent, so that it lies on a light page as well as on a dark one; it
carries a text alternative, written from its data, in layout.meta["alt"]; and it stays
small: numbers are drawn to 4 significant digits. A number that is not finite (a run that
diverged) is a gap.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lrdlib._check import check_bool, check_choice, check_integer
from lrdlib.figures.canvas import INK, axes, canvas, controls, finish, rule_colours
from lrdlib.figures.captions import accuracy_text, each, labels, number, rank_text
from lrdlib.figures.draw import numbers
from lrdlib.training.runs import GROKKED, Run

SCALE = "Viridis"
# sigma_i / sigma_1 is drawn at no less: float32 singular values are noise there.
RESOLUTION = 1e-8
MAX_FRAMES = 60
MOST = 5  # runs in one figure
STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "orbit_clean_accuracy": ("orbit-clean pairs", {"width": 2.25}),
    "test_accuracy": ("test", {"width": 1.25, "dash": "dash"}),
    "train_accuracy": ("train", {"width": 1.25, "dash": "dot"}),
}
INDEX = "index i"
RATIO = "σ<sub>i</sub> / σ<sub>1</sub>"

Place = tuple[int, int]  # row and column of a panel, from 1
Curve = tuple[np.ndarray, np.ndarray]  # x (n,), whole numbers, and y (n,)


def mechanism_figure(runs: Sequence[Run], *, narrow: bool = False) -> go.Figure:
    """The paper's figure 2 for 2 to 5 runs: what the rule does to accuracy, rank, spectrum,
    and attention pattern.

    Accuracy by step (test dashed; solid the pairs of which neither order was trained on);
    the stable rank of the query and key matrices by step (their mean); the spectrum sigma_i
    / sigma_1 at the end (mean over the query and key matrices of all layers, log scale);
    and |W_Q^T W_K| of layer 0, in percent of its maximum. Weights act as y = x W^T, so this
    is the paper's |W_Q W_K^T|: two residual vectors x and y score x^T W_Q^T W_K y.

    narrow: one panel per row, for a column as slim as a phone; the book's scripts do so by
    themselves. Raises TypeError or ValueError unless `runs` are 2 to 5 Runs that hold query
    and key matrices.
    """
    runs = _checked(runs, at_least=2)
    check_bool("narrow", narrow)
    for run in runs:
        if not {"0.query", "0.key"} <= run.weights.keys() & run.spectra.keys():
            raise ValueError(
                "runs must hold weights and spectra of '0.query' and '0.key', got a Run with "
                f"weights {sorted(run.weights)} and spectra {sorted(run.spectra)}"
            )
    n = 3 + len(runs)
    wide = canvas([250] + [230] * -(-len(runs) // 3), 3, panels=n, horizontal_spacing=0.14)
    # The last row is room for the colour bar.
    slim = canvas([200] * 3 + [240] * len(runs) + [20], panels=n)
    fig, columns = (slim, 1) if narrow else (wide, 3)
    places = [(1 + i // columns, 1 + i % columns) for i in range(n)]
    below = {"y": 0, "yanchor": "bottom", "len": 1}
    phone = {
        f"{axis}.domain": slim.layout[axis].domain
        for axis in slim.layout
        if re.fullmatch(r"[xy]axis\d*", axis)
    }
    phone |= {"height": slim.layout.height, "legend.yanchor": "top"}
    phone |= {f"coloraxis.colorbar.{key}": value for key, value in below.items()}
    _accuracy_panel(fig, runs, ("orbit_clean_accuracy", "test_accuracy"), places[0])
    _rank_panel(fig, runs, places[1])
    spectra = [_mean_spectrum(run) for run in runs]
    _spectrum_panel(fig, runs, spectra, places[2], y=f"QK mean {RATIO}")
    named = zip(labels(runs), runs, _colours(runs), places[3:], strict=True)
    for name, run, colour, place in named:
        _pattern_panel(fig, run, f"<span style='color:{colour}'>■</span> {name}", place)
    title = "|W<sub>Q</sub><sup>T</sup> W<sub>K</sub>| of layer 0, % of maximum"
    _colour_axis(fig, title, 0, 100, **(below if narrow else {}))
    large = [f"{np.sum(S > 1e-3)}" if np.isfinite(S).all() else "diverged" for S in spectra]
    alt = (
        f"{accuracy_text(runs)} {rank_text(runs)} Singular values above a thousandth of "
        f"the largest at the end, of {len(spectra[0])}: {each(runs, large)}. Below, the "
        "absolute query-key product of layer 0 of each run."
    )
    return finish(fig, alt, narrow=phone)


def timeline_figure(runs: Run | Sequence[Run]) -> go.Figure:
    """Accuracy (train, test, orbit-clean) above, QK stable rank below, with the step of
    grokking marked.

    A line in the run's colour stands at the first recorded step with test accuracy > 0.95.
    The steps of both panels move together. Raises TypeError or ValueError unless `runs` is
    a Run or 1 to 5 of them.
    """
    runs = _checked(runs)
    fig = canvas([280, 190], 1, shared=True)
    _accuracy_panel(fig, runs, tuple(STYLES), (1, 1))
    _rank_panel(fig, runs, (2, 1))
    fig.update_xaxes(title_text="", row=1, col=1)
    for i, (run, colour) in enumerate(zip(runs, _colours(runs), strict=True)):
        step = run.first_step(above=GROKKED)
        if step is None:
            continue
        line = {"line_color": colour, "line_width": 1.25, "line_dash": "dashdot"}
        for row in (1, 2):
            fig.add_vline(step, row=row, col=1, **line)
        fig.add_annotation(  # between the panels, on two lines
            text=f"{GROKKED:.0%} at {step}",
            font={"color": colour, "size": 11},
            showarrow=False,
            x=step,
            xref="x2",
            xanchor="left",
            y=1,
            yref="y2 domain",
            yanchor="bottom",
            yshift=12 * (i % 2),
        )
    return finish(fig, f"{accuracy_text(runs)} {rank_text(runs)}")


def spectrum_figure(run: Run, matrix: str = "0.query") -> go.Figure:
    """Every singular value of one matrix over time: step across, index down, colour log10
    sigma_i.

    The darkest colour is for the smallest hundredth of the values, so that a single tiny
    one does not pale the rest. Raises TypeError unless `run` is a Run, ValueError for a
    matrix that it does not hold.
    """
    if not isinstance(run, Run):
        raise TypeError(f"run must be a Run, got {type(run).__name__}")
    check_choice("matrix", matrix, run.spectra)
    if not len(run.history["step"]):
        raise ValueError("run must have at least one record, got none")
    keep = _thin(len(run.history["step"]), 2 * MAX_FRAMES)
    steps, S = run.history["step"][keep], run.spectra[matrix][keep]  # (T,), (T, k)
    Z = _log10(S)
    fig = canvas([380], 1)
    fig.add_heatmap(
        x=steps.tolist(),
        y=list(range(1, S.shape[1] + 1)),
        z=[numbers(row) for row in Z.T],
        coloraxis="coloraxis",
        hovertemplate="step %{x}, index %{y}<br>log<sub>10</sub> σ = %{z:.2f}<extra></extra>",
    )
    known = Z[np.isfinite(Z)] if np.isfinite(Z).any() else np.zeros(1)
    low, high = float(np.quantile(known, 0.01)), float(known.max())
    _colour_axis(fig, f"log<sub>10</sub> σ<sub>i</sub> of {matrix}", low, high)
    axes(fig, "step", INDEX, showgrid=False, ticks="")
    fig.update_yaxes(autorange="reversed")
    first, last = (f"{number(row[0])} down to {number(row[-1])}" for row in (S[0], S[-1]))
    alt = (
        f"Heatmap of the {S.shape[1]} singular values of {matrix} of {labels([run])[0]} "
        f"over {steps[-1]} steps: from {first} at step {steps[0]}, from {last} at the end."
    )
    return finish(fig, alt)


def spectrum_player(
    runs: Run | Sequence[Run], matrix: str = "0.query", *, start: int = 0
) -> go.Figure:
    """The spectrum sigma_i / sigma_1 of one matrix, step by step, above the accuracy on
    orbit-clean pairs with a marker that moves along.

    A plotly animation of at most 60 frames: its slider and buttons need no kernel. It shows
    the frame nearest to step `start` before it is moved. Raises TypeError or ValueError
    unless `runs` is a Run or 1 to 5 of them, at the same steps, that hold `matrix`.
    """
    runs = _checked(runs)
    for run in runs:
        check_choice("matrix", matrix, run.spectra)
    check_integer("start", start, at_least=0)
    steps = runs[0].history["step"]
    if not all(np.array_equal(run.history["step"], steps) for run in runs):
        raise ValueError(
            "runs must have been recorded at the same steps, got different ones"
        )
    keep = _thin(len(steps), MAX_FRAMES)
    active = int(np.abs(steps[keep] - start).argmin())
    first = keep[active]
    spectra = [_relative(run.spectra[matrix]) for run in runs]  # (T, k) each
    points = [run.history["orbit_clean_accuracy"] for run in runs]
    fig = canvas([280, 190], 1)
    _accuracy_panel(fig, runs, ("orbit_clean_accuracy",), (2, 1))
    moving = list(range(len(runs), 3 * len(runs)))
    rolled = [np.roll(S, -first, axis=0) for S in spectra]  # the first frame comes first
    _spectrum_panel(fig, runs, rolled, (1, 1), y=f"{RATIO} of {matrix}")
    now = [(steps[first : first + 1], y[first : first + 1]) for y in points]
    dot: dict[str, Any] = {"mode": "markers", "marker": {"size": 11}, "cliponaxis": False}
    _draw_curves(fig, runs, now, (2, 1), "step", "accuracy", **dot)
    fig.update_xaxes(range=[int(steps[0]), int(steps[-1])], row=2, col=1)

    def moved(t: int) -> list[go.Scatter]:
        """What stands in the place of the moving traces at record t."""
        x = steps[t : t + 1].tolist()
        curves = [go.Scatter(y=numbers(S[t])) for S in spectra]
        return curves + [go.Scatter(x=x, y=numbers(y[t : t + 1])) for y in points]

    stops = [str(steps[t]) for t in keep]
    fig.frames = [
        go.Frame(name=stop, traces=moving, data=moved(t))
        for stop, t in zip(stops, keep, strict=True)
    ]
    fig.update_layout(**controls(stops, prefix="step ", active=active, redraw=False))
    smallest = [f"{number(S[0, -1])} to {number(S[-1, -1])}" for S in spectra]
    alt = (
        f"Animation over {steps[-1]} steps of the singular values of {matrix} relative to "
        f"the largest; the smallest goes from start to end: {each(runs, smallest)}. "
        f"{accuracy_text(runs)}"
    )
    return finish(fig, alt)


# ---- panels


def _accuracy_panel(
    fig: go.Figure, runs: Sequence[Run], metrics: Sequence[str], place: Place
) -> None:
    """Accuracies by step; the legend of the figure: the runs, and the line styles if there
    are several."""
    clean = [run.history["orbit_clean_accuracy"] for run in runs]
    shown = []
    for metric in metrics:
        values = [run.history[metric] for run in runs]
        if metric == "test_accuracy" and all(map(np.array_equal, values, clean)):
            continue  # the task does not commute
        shown.append(metric)
        name, line = STYLES[metric]
        curves = [(r.history["step"], v) for r, v in zip(runs, values, strict=True)]
        style: dict[str, Any] = {"line": line, "showlegend": metric == metrics[0]}
        _draw_curves(fig, runs, curves, place, "step", f"{name} accuracy", **style)
    for metric in shown if shown[1:] else ():
        name, line = STYLES[metric]
        key = {"name": name, "mode": "lines", "line": {"color": INK, **line}}
        fig.add_scatter(x=[None], y=[None], **key, hoverinfo="skip")
    row, col = place
    only = f"accuracy on {STYLES[shown[0]][0]}"
    axes(fig, "step", "accuracy" if shown[1:] else only, row=row, col=col)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    fig.update_yaxes(range=[-0.03, 1.03], tickvals=ticks, row=row, col=col)


def _rank_panel(fig: go.Figure, runs: Sequence[Run], place: Place) -> None:
    """The stable rank of the query and key matrices by step, from zero."""
    curves = [(run.history["step"], run.history["qk_stable_rank"]) for run in runs]
    _draw_curves(fig, runs, curves, place, "step", "QK stable rank")
    fig.update_yaxes(rangemode="tozero", row=place[0], col=place[1])


def _spectrum_panel(
    fig: go.Figure,
    runs: Sequence[Run],
    spectra: Sequence[np.ndarray],
    place: Place,
    *,
    y: str,
) -> None:
    """The first spectrum of each (..., k) on a log axis that has room for all of them."""
    firsts = [S.reshape(-1, S.shape[-1])[0] for S in spectra]  # (k,)
    curves = [(np.arange(1, len(S) + 1), S) for S in firsts]
    _draw_curves(fig, runs, curves, place, INDEX, y)
    known = [S[np.isfinite(S)] for S in spectra]
    low = min((float(S.min()) for S in known if len(S)), default=0.1)
    floor = float(np.log10(low)) - 0.2
    fig.update_yaxes(
        type="log",
        range=[floor, 0.15],
        dtick=1 if floor < -1.5 else None,
        exponentformat="power",
        tickfont_size=11,
        row=place[0],
        col=place[1],
    )


def _pattern_panel(fig: go.Figure, run: Run, title: str, place: Place) -> None:
    """|W_Q^T W_K| of layer 0 in whole percents of its maximum, as square cells."""
    row, col = place
    Q, K = (run.weights[name].astype(np.float64) for name in ("0.query", "0.key"))  # (d, d)
    A = np.abs(Q.T @ K)
    finite = np.isfinite(A).all() and A.max() > 0
    fig.add_heatmap(
        z=np.rint(100 * A / A.max()).astype(np.uint8) if finite else [[None]],
        coloraxis="coloraxis",
        hovertemplate="query side %{y}, key side %{x}<br>%{z}% of the maximum<extra></extra>",
        row=row,
        col=col,
    )
    span = [-0.5, len(A) - 0.5]
    square: dict[str, Any] = {"range": span, "constrain": "domain", "nticks": 4}
    square |= {"showgrid": False, "ticks": ""}
    axes(fig, "key side", "query side", row=row, col=col, **square)
    x = next(fig.select_xaxes(row=row, col=col)).plotly_name.replace("axis", "")
    fig.update_yaxes(scaleanchor=x, range=span[::-1], row=row, col=col)
    fig.add_annotation(
        text=title if finite else f"{title}: diverged",
        font_size=13,
        showarrow=False,
        x=0.5,
        xref=f"{x} domain",
        xanchor="center",
        y=1,
        yref=f"{x.replace('x', 'y')} domain",
        yanchor="bottom",
    )


def _draw_curves(
    fig: go.Figure,
    runs: Sequence[Run],
    curves: Sequence[Curve],
    place: Place,
    x: str,
    y: str,
    **style: Any,
) -> None:
    """One curve per run, in the run's colour."""
    style = {"mode": "lines", "showlegend": False, "line": {"width": 2.25}, **style}
    part = "marker" if style["mode"] == "markers" else "line"
    row, col = place
    drawn = zip(labels(runs), _colours(runs), curves, strict=True)
    for name, colour, (X, Y) in drawn:
        fig.add_scatter(
            x=X.tolist(),
            y=numbers(Y),
            name=name,
            legendgroup=name,
            hovertemplate=f"{name}<br>{x} %{{x}}<br>{y} %{{y:.3~g}}<extra></extra>",
            **style | {part: style[part] | {"color": colour}},
            row=row,
            col=col,
        )
    axes(fig, x, y, row=row, col=col)


def _colour_axis(fig: go.Figure, title: str, low: float, high: float, **place: Any) -> None:
    """A colour axis from low to high, and its bar below the panels or where `place` says."""
    bar: dict[str, Any] = {"orientation": "h", "len": 0.6, "nticks": 5}
    bar |= {"thickness": 10, "outlinewidth": 0}
    bar |= {"title": {"text": title, "side": "bottom"}}
    bar |= {"x": 0.5, "y": -60 / (fig.layout.height - 120), "yanchor": "top"} | place
    axis = {"colorscale": SCALE, "cmin": low, "cmax": high, "colorbar": bar}
    fig.update_layout(coloraxis=axis)


# ---- numbers


def _colours(runs: Sequence[Run]) -> list[str]:
    return rule_colours([run.config for run in runs])


def _mean_spectrum(run: Run) -> np.ndarray:
    """sigma_i / sigma_1 (k,) at the last record: the mean over the query and key matrices
    of all layers."""
    qk = [S[-1] for name, S in run.spectra.items() if name.endswith((".query", ".key"))]
    return np.mean([_relative(S) for S in qk], axis=0)


def _relative(S: np.ndarray) -> np.ndarray:
    """sigma_i / sigma_1 (..., k), at least RESOLUTION; NaN for a zero matrix."""
    with np.errstate(invalid="ignore"):
        return np.maximum(S / S[..., :1], RESOLUTION)


def _log10(S: np.ndarray) -> np.ndarray:
    """log10 of S, of at least RESOLUTION times its largest value; not finite where there is
    none."""
    top = np.max(S, where=np.isfinite(S), initial=0.0)
    with np.errstate(divide="ignore"):
        return np.log10(np.maximum(S, RESOLUTION * top))


def _thin(n: int, most: int) -> np.ndarray:
    """At most `most` of the indices 0 .. n - 1, evenly, with the first and the last.

    >>> _thin(5, 3)
    array([0, 2, 4])
    """
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)


# ---- checks


def _checked(runs: object, *, at_least: int = 1) -> list[Run]:
    """Runs as a list; an error unless there are `at_least` of them, no more than MOST,
    each with a record of what is drawn."""
    several = [runs] if isinstance(runs, Run) else runs
    if not isinstance(several, (list, tuple)):
        raise TypeError(f"runs must be Runs, got {type(runs).__name__}")
    several = list(several)
    for run in several:
        if not isinstance(run, Run):
            raise TypeError(f"runs must be Runs, got {type(run).__name__}")
    if not at_least <= len(several) <= MOST:
        raise ValueError(f"runs must be {at_least} to {MOST} Runs, got {len(several)}")
    for run in several:
        if not {*STYLES, "qk_stable_rank"} <= run.history.keys():
            raise ValueError(
                f"runs must hold the histories {', '.join(STYLES)} and qk_stable_rank, got a "
                f"Run with {', '.join(run.history)}"
            )
        if not len(run.history["step"]):
            raise ValueError("runs must have at least one record each, got a Run with none")
    return several
