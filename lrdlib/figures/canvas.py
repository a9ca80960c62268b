"""An empty plotly figure in the book's style, and how to make it move: what every figure of
lrdlib is drawn on.

A figure is transparent, so that it lies on a light page as well as on a dark one, and
carries a text alternative in layout.meta["alt"]. It moves by plotly's own frames, slider
and buttons, which need no kernel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrdlib._check import check_choice, check_integer, check_real, shown
from lrdlib.training.runs import NAMES

# Each at least 3.4 : 1 on white and on #121212 (WCAG 2.1 asks 3 : 1 of a line); far apart
# under normal sight and under deuteranopia, protanopia and tritanopia as simulated by
# Machado, Oliveira and Fernandes 2009.
PALETTE = ("#378eca", "#cc7518", "#6058e8", "#e8329a", "#8e5c5a")
INK = "#797979"  # text: the grey of equal contrast, 4.3 : 1, on white and on #121212
GRID = "rgba(128, 128, 128, 0.25)"

# One colour for each rule, in every picture of the book. Each at least 3 : 1 on white and on
# #121212, and any two at least 15 apart (CIE 1976) under normal sight and as simulated above.
RULE_COLOURS = {
    "none": INK,
    "l2": PALETTE[0],
    "l2 on blocks": "#426781",
    "lrd": PALETTE[1],
    "lrd on qk": "#895c31",
    "elastic": PALETTE[2],
    "proximal": "#ab8e73",
}
OF_A_PART = {"l2 on blocks": "L2 on the blocks", "lrd on qk": "LRD on queries and keys"}
RULE_NAMES = {rule: OF_A_PART.get(rule) or NAMES[rule] for rule in RULE_COLOURS}
# What the last of several runs of one rule is drawn in; those between lie between.
LAST_OF = {
    "none": "#646464",
    "l2": RULE_COLOURS["l2 on blocks"],
    "lrd": RULE_COLOURS["lrd on qk"],
    "elastic": "#8a84f2",
    "proximal": "#7d6651",
}


def rule_of(config: Mapping[str, Any]) -> str:
    """The rule that acts in a run, as RULE_COLOURS names it: L2 also where the low-rank part
    has no strength, and "none" where nothing has.

    config: the fields of a TrainConfig, those that are not named at their defaults.

    >>> rule_of({"rule": "lrd", "weight_decay": 0.01, "select": "qk"})
    'lrd on qk'
    >>> rule_of({"rule": "lrd", "weight_decay": 0.0, "l2": 0.1})
    'l2'
    """
    rule = config["rule"]
    if not config.get("weight_decay"):
        return "l2" if config.get("l2") else "none"
    if rule == "l2" and config.get("l2_on") == "selected":
        return "l2 on blocks"
    return "lrd on qk" if rule == "lrd" and config.get("select") == "qk" else rule


def rule_named(name: str) -> str | None:
    """The rule that a name begins with, the most precise one; None if with none.

    >>> rule_named("L2 on the blocks, f = 0.4"), rule_named("LRD, no scale")
    ('l2 on blocks', 'lrd')
    >>> rule_named("tangential part") is None
    True
    """
    begun = [
        rule
        for rule, said in RULE_NAMES.items()
        if name.startswith(said) and not name[len(said) :][:1].isalnum()
    ]
    return max(begun, key=lambda rule: len(RULE_NAMES[rule]), default=None)


def rule_colours(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A colour for each run of a picture, from the fields of its TrainConfig: that of its
    rule, and where several runs have one rule, from that colour in equal steps to LAST_OF.

    >>> l2 = {"rule": "l2", "weight_decay": 0.1}
    >>> rule_colours([l2]) == [RULE_COLOURS["l2"]]
    True
    >>> rule_colours([l2, l2]) == [RULE_COLOURS["l2"], LAST_OF["l2"]]
    True
    """
    rules = [rule_of(config) for config in configs]
    found = [""] * len(rules)
    for base, last in LAST_OF.items():
        plain = [i for i, rule in enumerate(rules) if rule == base]
        parts = [i for i, rule in enumerate(rules) if rule.startswith(f"{base} on ")]
        ends = (RULE_COLOURS[base], last) if plain else (last, RULE_COLOURS[base])
        steps = max(len(plain + parts) - 1, 1)
        for k, i in enumerate(plain + parts):
            found[i] = _between(*ends, k / steps)
    return found


def _between(first: str, last: str, share: float) -> str:
    """The colour at this share of the way from the first to the last."""
    pairs = [(int(first[i : i + 2], 16), int(last[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


def rule_key() -> str:
    """The key of RULE_COLOURS as HTML: a swatch of each rule, then its name."""
    swatch = "display:inline-block;width:1.6em;height:0.7em;border-radius:2px"
    items = [
        f'<span style="white-space:nowrap"><span style="{swatch};background:'
        f'{RULE_COLOURS[rule]}"></span> {name}</span>'
        for rule, name in RULE_NAMES.items()
    ]
    gap = "display:flex;flex-wrap:wrap;gap:0.3em 1.4em"
    return f'<p class="lrd-rules" style="{gap}">{"".join(items)}</p>'


def canvas(
    heights: Sequence[int] = (340,),
    columns: int = 1,
    *,
    panels: int | None = None,
    shared: bool = False,
    **options: Any,
) -> go.Figure:
    """Empty panels of the given heights in pixels, row by row; the last row may have fewer
    (`panels` in all).

    shared: the panels of a column share their x axis. options go to plotly's make_subplots.
    Raises TypeError or ValueError unless there are heights, all of them positive, and the
    panels, if given, are as many as have room.
    """
    if not heights:
        raise ValueError("heights must hold the height of at least one row, got none")
    for i, height in enumerate(heights):
        check_real(f"heights[{i}]", height, above=0)
    check_integer("columns", columns)
    gap, around, rows = (30 if shared else 85), 120, len(heights)
    inner = sum(heights) + gap * (rows - 1)
    used = rows * columns if panels is None else panels
    check_integer("panels", used)
    if used > rows * columns:
        raise ValueError(f"panels must be at most {rows * columns}, got {used}")
    fig = make_subplots(
        rows,
        columns,
        row_heights=list(heights),
        vertical_spacing=gap / inner,
        shared_xaxes=shared,
        specs=[
            [{} if row * columns + col < used else None for col in range(columns)]
            for row in range(rows)
        ],
        **{"horizontal_spacing": 0.1} | options,
    )
    legend: dict[str, Any] = {"orientation": "h", "itemwidth": 30}
    legend |= {"x": 0, "y": 1, "yref": "container", "yanchor": "top"}
    fig.update_layout(
        template="none",
        height=inner + around,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        margin={"l": 60, "r": 24, "t": 60, "b": 52},
        legend=legend,
    )
    return fig


def axes(
    fig: go.Figure, x: str, y: str, *, row: int = 1, col: int = 1, **both: Any
) -> None:
    """Name the axes of one panel and draw them in the style; `both` goes to the x and the y
    axis."""
    line: dict[str, Any] = {"gridcolor": GRID, "linecolor": GRID}
    line |= {"showline": True, "zeroline": False}
    line |= {"title_standoff": 6, "title_font_size": 13, "automargin": True} | both
    fig.update_xaxes(title_text=x, **line, row=row, col=col)
    fig.update_yaxes(title_text=y, **line, row=row, col=col)


def movable(
    fig: go.Figure,
    frames: Mapping[str, Sequence[Any]],
    *,
    prefix: str,
    start: str | None = None,
    play: bool = False,
) -> go.Figure:
    """Give `fig` a slider with one stop per frame, and with `play` buttons to play and to
    pause.

    frames: label of the stop -> the traces that stand there instead of the figure's first
    len(traces) traces. start: the label that the figure shows before it is moved (default
    the first), so draw that one. prefix: what the slider says before the label. Raises
    ValueError if there are no frames, they differ in their number of traces, or start is
    not one of them.
    """
    if not isinstance(frames, Mapping):
        raise TypeError(f"frames must be a dict of traces, got {type(frames).__name__}")
    counts = {len(traces) for traces in frames.values()}
    if len(counts) != 1:
        raise ValueError(
            f"frames must all hold the same number of traces, got {sorted(counts)}"
        )
    names = list(frames)
    check_choice("start", start, (None, *names))
    moving = list(range(counts.pop()))
    fig.frames = [
        go.Frame(name=name, data=list(traces), traces=moving)
        for name, traces in frames.items()
    ]
    active = 0 if start is None else names.index(start)
    fig.update_layout(**controls(names, prefix=prefix, active=active, play=play))
    fig.update_layout(height=fig.layout.height + 90, margin_b=fig.layout.margin.b + 90)
    return fig


def controls(
    names: Sequence[str],
    *,
    prefix: str,
    active: int = 0,
    play: bool = True,
    redraw: bool = True,
) -> dict[str, Any]:
    """A slider with a stop per frame, and buttons to play and to pause, as layout.

    redraw: draw the whole figure at each stop, which bars and heatmaps need; lines and
    points move faster without.
    """
    frame = {"duration": 0, "redraw": redraw}
    still = {"mode": "immediate", "frame": frame, "transition": {"duration": 0}}
    moving = {**still, "fromcurrent": True, "frame": frame | {"duration": 80}}

    def stop(label: str, *args: Any) -> dict[str, Any]:
        return {"label": label, "method": "animate", "args": list(args)}

    quiet: dict[str, Any] = {"bgcolor": "rgba(0,0,0,0)", "bordercolor": GRID}
    quiet |= {"x": 0, "y": 0, "yanchor": "top", "pad": {"t": 56}}
    steps = [stop(name, [name], still) for name in names]
    slider: dict[str, Any] = {"steps": steps, "active": active}
    slider |= {"currentvalue": {"prefix": prefix, "xanchor": "right"}, "len": 1}
    slider |= {"activebgcolor": INK, "tickcolor": GRID}
    buttons = [stop("▶", None, moving), stop("❚❚", [None], still)]
    menu = {"type": "buttons", "direction": "left", "showactive": False, "buttons": buttons}
    return {
        "sliders": [quiet | slider],
        "updatemenus": [quiet | menu] if play else [],
    }


def finish(fig: go.Figure, alt: str, **meta: Any) -> go.Figure:
    """Attach the text alternative that a page gives to those who cannot see the figure, and
    what its scripts need.

    narrow: what a phone changes of the layout, as a flat update such as {"xaxis2.domain":
    [0, 1], "height": 900}. Raises TypeError for anything but a text, ValueError if it is
    empty.
    """
    if not isinstance(alt, str):
        raise TypeError(f"alt must be a text, got {type(alt).__name__}")
    if not alt.strip():
        raise ValueError(f"alt must say what the figure shows, got {shown(alt)}")
    return fig.update_layout(meta={"alt": alt, **meta})
