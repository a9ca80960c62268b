"""Claims on a page: an overview of the verdicts, their cards, and a picture in which a
verdict moves with its threshold.

    overview(evidence), cards(evidence)
    threshold_verdicts({"LRD": shares, "L2": shares}, judged=("LRD", "L2"), cut=0.9)

In the picture each number is of one run; a line is the share of runs below the threshold.
"""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, groupby
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lrdlib._check import check_choice, check_instance, check_real, shown
from lrdlib.evidence.cards import changes, curve_text, lrd_text, rule_text, verdict_text
from lrdlib.evidence.claims import THEIRS, WHOSE, Claim, findings
from lrdlib.evidence.judging import Curve, Evidence, Finding
from lrdlib.figures.canvas import (
    INK,
    PALETTE,
    RULE_COLOURS,
    axes,
    canvas,
    finish,
    movable,
    rule_named,
)

THRESHOLDS = (0.9, 0.75, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.0625)
DASHES = ("solid", "dash")  # of those that are judged, and of the others
OTHERS = (PALETTE[2], PALETTE[3], PALETTE[4])  # of lines that are of no one rule
STROKES = ("", "6 3", "2 3", "8 3 2 3")  # of a sparkline's lines
WIDTH, HEIGHT, LEFT, TOP = 300, 110, 34, 8  # of a sparkline, and its margins


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


def _colour(name: str, names: Sequence[str]) -> str:
    """The colour of a group: of the rule that it begins with, else of its first word."""
    if rule := rule_named(name):
        return RULE_COLOURS[rule]
    first = list(dict.fromkeys(one.split()[0].rstrip(",") for one in names))
    return OTHERS[first.index(name.split()[0].rstrip(",")) % len(OTHERS)]


def _lines(arrays: Mapping[str, np.ndarray], judged: Sequence[str]) -> list[go.Scatter]:
    at = np.geomspace(1.0, 0.05, 60)
    return [
        go.Scatter(
            x=at.round(4).tolist(),
            y=[round(_share(x, one), 4) for one in at],
            name=name,
            mode="lines",
            line={
                "color": _colour(name, list(arrays)),
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
            marker={"size": 11, "color": _colour(name, list(arrays))},
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


# ---- claims to be read


def overview(evidence: Evidence) -> str:
    """All claims as an HTML table, a line each: the verdict, the claim as a link to its
    card, and the first clause of what was measured; above it, how many there are of each
    verdict. What the author's own report says, and questions of ours, are marked and
    counted apart."""
    found = findings(evidence)
    rows = [
        f'<tr class="lrd-{_slug(one.verdict)}"><td><strong>{one.verdict}</strong>'
        f"<br><small>{', '.join(_conditions(claim, one))}</small></td>"
        f'<td><a href="#claim-{claim.name}">{_marked(claim.statement)}</a></td>'
        f"<td><span>{_marked(gist(one.effect))}</span></td></tr>"
        for claim, one in found
    ]
    return (
        f"<p>{counts_text(found)}</p>"
        '<table class="lrd-overview"><thead><tr><th>verdict</th><th>claim</th>'
        f"<th>what we measured</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def counts_text(found: Sequence[tuple[Claim, Finding]]) -> str:
    """How many claims have which verdict, and how many of these are provisional, apart for
    each of WHOSE."""
    parts = []
    for who, some in _by_whose(found).items():
        provisional = sum(bool(one.provisional) for one in some)
        number = f"{len(some)} {WHOSE[who]}"
        parts.append(f"{number}: {_verdicts(some)}; {provisional} of them provisional.")
    return " ".join(parts)


def _by_whose(found: Sequence[tuple[Claim, Finding]]) -> dict[str, list[Finding]]:
    """The findings by whose the statements are, in the order of WHOSE."""
    all_of = {who: [one for claim, one in found if claim.whose == who] for who in WHOSE}
    return {who: some for who, some in all_of.items() if some}


def _verdicts(found: Sequence[Finding]) -> str:
    """How many there are of each verdict, the most common first."""
    counts = Counter(one.verdict for one in found)
    return ", ".join(f"{verdict} {n}" for verdict, n in counts.most_common())


def _apart(who: str) -> str:
    """Whose a statement is, in a word or two; "" of the paper and its code."""
    return "" if who == THEIRS else who.removeprefix("the ")


def _conditions(claim: Claim, found: Finding) -> list[str]:
    """Whose the statement is, if not theirs, and what a verdict is subject to."""
    provisional = "provisional" if found.provisional else ""
    return [words for words in (_apart(claim.whose), found.note, provisional) if words]


def gist(effect: str) -> str:
    """The first clause of an effect: up to a semicolon or a full stop outside brackets.

    >>> gist("LRD 3 of 5 (95%; one seed); L2 none. A run counts once")
    'LRD 3 of 5 (95%; one seed)'
    """
    depth = 0
    for i, letter in enumerate(effect):
        depth += (letter == "(") - (letter == ")")
        if not depth and re.match(r"[;.] ", effect[i : i + 2]):
            return effect[:i]
    return effect


def cards(evidence: Evidence, lab: Mapping[str, tuple[str, str]] | None = None) -> str:
    """A card per claim as HTML that fits a phone, folded by what the claims are about. The
    link to a card, #claim-NAME, unfolds what it lies in: browsers do so by themselves.

    lab: by a claim's name, what shows it there, in words, and its address
    (lrdlib.lab.shows).
    """
    return "\n".join(
        _section(about, list(found), lab or {})
        for about, found in groupby(findings(evidence), key=lambda pair: pair[0].about)
    )


def _section(
    about: str,
    found: Sequence[tuple[Claim, Finding]],
    lab: Mapping[str, tuple[str, str]],
) -> str:
    said = "; ".join(
        ": ".join(filter(None, (_apart(who), _verdicts(some))))
        for who, some in _by_whose(found).items()
    )
    blocks = "\n".join(_card(claim, one, lab.get(claim.name)) for claim, one in found)
    return (
        f'<details class="lrd-about"><summary><strong>{about}</strong> '
        f"<small>{said}</small></summary>{blocks}</details>"
    )


def _slug(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _card(claim: Claim, found: Finding, lab: tuple[str, str] | None) -> str:
    first, *others = _sentences(_marked(found.effect))
    listed = f"<ul>{''.join(f'<li>{one}.</li>' for one in others)}</ul>" if others else ""
    why = f"<p><em>Provisional: {found.provisional}.</em></p>" if found.provisional else ""
    seen = ", exploratory" if claim.after_runs else ""
    more = [f"<p><b>Rule.</b> {_marked(rule_text(claim))}.</p>"]
    here = "; LRD here" if claim.lrd else ""
    if lrd := lrd_text(claim):
        more.append(f"<p><b>LRD here.</b> {_marked(lrd)}.</p>")
    more.append(
        f"<p><b>Remake these runs.</b> <code>{html.escape(found.command)}</code></p>"
    )
    curve = sparkline(found.curve) if found.curve else ""
    if lab:
        words, address = (html.escape(part) for part in lab)
        curve += f'<p>In the lab: <a href="{address}">{words}</a>.</p>'
    return (
        f'<div class="lrd-claim lrd-{_slug(found.verdict)}" id="claim-{claim.name}">'
        f"<p><strong>{verdict_text(found)}</strong> {_marked(claim.statement)} "
        f"<small>({_marked(claim.source)})</small></p>"
        f"<p>{first}. <small>{found.basis}.</small></p>{listed}{why}"
        f"{curve}<details><summary>Rule of {claim.written}{seen}{here}</summary>"
        f"{''.join(more)}</details></div>"
    )


def _sentences(text: str) -> list[str]:
    """The sentences of an effect, without their full stops.

    >>> _sentences("ratio of RMST 0.5. Runs: A 3. λ = 1: none")
    ['Ratio of RMST 0.5', 'Runs: A 3', 'λ = 1: none']
    """
    sentences = re.split(r"\. (?=[A-Zλ])", text)
    first = sentences[0]
    begin = first[:1].upper() if first[:1].isascii() else first[:1]  # λ stays as it is
    return [begin + first[1:], *sentences[1:]]


def _marked(text: str) -> str:
    """Text as HTML, with *emphasis*."""
    plain, *rest = html.escape(text, quote=False).split("*")
    pairs = zip(rest[::2], rest[1::2], strict=False)
    return plain + "".join(f"<em>{inside}</em>{after}" for inside, after in pairs)


def sparkline(curve: Curve) -> str:
    """A curve as a small picture (SVG): the thresholds across at equal distances, the share
    of runs up; dotted, the threshold that the verdict uses. The text alternative is
    curve_text."""
    right, bottom = WIDTH - 18, HEIGHT - 24
    xs = [LEFT + (right - LEFT) * i / (len(curve.at) - 1) for i in range(len(curve.at))]

    def height(share: float) -> float:
        return bottom - (bottom - TOP) * share

    style = 'stroke="currentColor" stroke-opacity="0.35"'
    parts = [
        f'<line x1="{LEFT}" x2="{right}" y1="{height(y):.1f}" y2="{height(y):.1f}" {style}/>'
        f'<text x="{LEFT - 4}" y="{height(y) + 4:.1f}" text-anchor="end">{y:.0%}</text>'
        for y in (0, 0.5, 1)
    ]
    used = xs[curve.at.index(curve.used)]
    parts.append(
        f'<line x1="{used:.1f}" x2="{used:.1f}" y1="{TOP}" y2="{bottom}" '
        'stroke="currentColor" stroke-dasharray="1 3"/>'
    )
    parts += [
        f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{at:g}</text>'
        for x, at in zip(xs, curve.at, strict=True)
    ]
    keys = []
    for (name, shares), dash in zip(curve.lines.items(), cycle(STROKES), strict=False):
        colour = _colour(name, list(curve.lines))
        points = " ".join(
            f"{x:.1f},{height(y):.1f}" for x, y in zip(xs, shares, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        keys.append(
            '<svg width="28" height="8" aria-hidden="true"><path d="M0 4h28" '
            f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/></svg> '
            f"{_marked(name)}"
        )
    label = html.escape(curve_text(curve), quote=True)
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'style="max-width: {1.4 * WIDTH:g}px; width: 100%" font-size="10" '
        f'fill="currentColor">{"".join(parts)}</svg>'
        f"<p><small>Share of runs by the threshold x: {_marked(curve.of)} x. "
        f"{'; '.join(keys)}. Dotted: the threshold of the rule.</small></p>"
    )


def changed() -> str:
    """The changes as an HTML list."""
    return f"<ul>{''.join(f'<li>{_marked(line[2:])}</li>' for line in changes())}</ul>"
