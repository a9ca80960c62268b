"""Cut networks in, a picture out: what is left of each when some of its matrices keep only
rank k."""

from collections.abc import Mapping

import plotly.graph_objects as go

from lrdlib._check import check_choice, check_instance
from lrdlib.evidence.cuts import GROUPS, PAIRS, Cuts
from lrdlib.figures.canvas import RULE_COLOURS, axes, canvas, finish, movable, rule_of
from lrdlib.figures.studies import SHARES

WORDS = {"orbit_clean": "orbit-clean accuracy", "train": "train accuracy"}
TIMES = 3  # bars of one group that can be told apart


def cuts_figure(cuts: Mapping[str, Cuts], *, start: int = 4) -> go.Figure:
    """A bar for each group of matrices and each network: its accuracy with the group cut to
    rank k, on orbit-clean pairs above and on train pairs below. A slider sets k.

    cuts: up to three networks of one width, by name. Colour is the rule; a second network
    of one rule is drawn hollow. start: the rank at first. Raises TypeError or ValueError
    for other things.
    """
    ranks = _ranks(cuts)
    check_choice("start", start, ranks)
    fig = canvas([190, 190], shared=True)
    above, below = (_bars(cuts, pairs, start) for pairs in WORDS)
    fig.add_traces(above, rows=1, cols=1)
    fig.add_traces(below, rows=2, cols=1)
    frames = {  # the heights alone: all else of a bar stays
        str(k): [go.Bar(y=_heights(c, pairs, k)) for pairs in WORDS for c in cuts.values()]
        for k in ranks
    }
    movable(fig, frames, prefix="rank k = ", start=str(start))
    for row, words in enumerate(WORDS.values(), 1):
        axes(fig, "cut to rank k" if row == len(WORDS) else "", words, row=row)
    fig.update_yaxes(range=[0, 1.02], tickvals=SHARES)
    fig.update_xaxes(showgrid=False, tickangle=0)
    fig.update_layout(barmode="group", bargap=0.25, bargroupgap=0.05)
    return finish(fig, _words(cuts, start))


def _ranks(cuts: Mapping[str, Cuts]) -> range:
    """0 to the width of the networks. One clear error for what is no such mapping."""
    check_instance("cuts", cuts, Mapping)
    for name, c in cuts.items():
        check_instance(f"cuts[{name!r}]", c, Cuts)
    widths = {c.config["d_model"] for c in cuts.values()}
    if len(widths) != 1 or len(cuts) > TIMES:
        raise ValueError(
            f"cuts must hold 1 to {TIMES} networks of one width, got {len(cuts)} of widths "
            f"{sorted(widths)}"
        )
    return range(widths.pop() + 1)


def _heights(c: Cuts, pairs: str, k: int) -> list[float]:
    """The accuracy of each group, to four digits."""
    return [round(float(y), 4) for y in c.accuracy[:, k, PAIRS.index(pairs)]]


def _bars(cuts: Mapping[str, Cuts], pairs: str, k: int) -> list[go.Bar]:
    """The bars of each network at rank k."""
    bars, rules = [], []
    for name, c in cuts.items():
        rule = rule_of(c.config)
        colour = RULE_COLOURS[rule]
        hollow = "rgba(128, 128, 128, 0.15)" if rule in rules else colour
        rules.append(rule)
        bars.append(
            go.Bar(
                x=list(GROUPS),
                y=_heights(c, pairs, k),
                name=name,
                legendgroup=name,
                showlegend=pairs == next(iter(WORDS)),
                marker={"color": hollow, "line": {"color": colour, "width": 1.5}},
                hovertemplate=f"{name}, %{{x}} cut: %{{y:.1%}}<extra></extra>",
            )
        )
    return bars


def _words(cuts: Mapping[str, Cuts], start: int) -> str:
    """The text alternative: what is left at the first stop, and the rank that each group
    needs."""
    texts = []
    for name, c in cuts.items():
        left = zip(GROUPS, _heights(c, c.learnt, start), strict=True)
        groups = "; ".join(f"{group} {y:.0%} ({c.needed(group)})" for group, y in left)
        texts.append(f"{name}, {c.learnt.replace('_', '-')} pairs: {groups}.")
    return (
        "Bars of the accuracy that is left when some matrices of a trained network are cut "
        f"to rank k, on orbit-clean pairs above and on train pairs below. The slider sets k; "
        f"it stands at {start}. In brackets, the rank from which on 95% of a network's "
        f"accuracy is left. {' '.join(texts)}"
    )
