"""Claims and their findings, to be read: a Markdown table, and a page's cards.

What a page folds away a table has in full. A verdict that depends on a threshold comes with
its curve, the share of runs by the threshold.
"""

import html
from collections.abc import Mapping

from lrdlib.evidence.claims import CHANGES, Claim, findings
from lrdlib.evidence.judging import Curve, Evidence, Finding
from lrdlib.training.config import TrainConfig

DASHES = ("", "6 3", "2 3", "8 3 2 3")  # of a curve's lines
COLOURS = ("#3b78c4", "#d1701f", "#2f8f4e", "#8a5fc0")
WIDTH, HEIGHT, LEFT, TOP = 300, 110, 34, 8  # of a curve's picture, and its margins


def what_lrd_is(c: TrainConfig) -> str:
    """Units of lambda, scale, matrices, method and initial scale of an LRD.

    >>> what_lrd_is(TrainConfig(rule="lrd", mode="decoupled"))
    'λ times the learning rate; adaptive scale; all matrices of attention and MLP; polar \
factor converged; initial scale 1'
    """
    units = "λ times the learning rate" if c.mode == "decoupled" else "λ as it is"
    scale = "no adaptive scale" if c.scale is None else "adaptive scale"
    places = {
        "attention+mlp": "all matrices of attention and MLP",
        "qk": "queries and keys",
    }
    steps = f"by {c.ns_steps} cubic steps"
    method = steps if c.method == "cubic" else "converged"
    rest = f", L2 {c.l2:g} on the rest" if c.l2 else ""
    return (
        f"{units}; {scale}; {places.get(c.select, c.select)}{rest}; polar factor {method}; "
        f"initial scale {c.init_scale:.3g}"
    )


def lrd_text(claim: Claim) -> str:
    """What LRD is in the runs of a claim; "" where none is in it."""
    return "; or: ".join(dict.fromkeys(what_lrd_is(config) for config in claim.lrd))


def verdict_text(found: Finding) -> str:
    """The verdict, with what goes with it: "holds, in unequal units"."""
    return ", ".join(filter(None, [found.verdict, found.note]))


def rule_text(claim: Claim) -> str:
    """The rule with its day."""
    seen = ", after these runs had been seen: exploratory" if claim.after_runs else ""
    return f"{claim.rule} (rule of {claim.written}{seen})"


def curve_text(curve: Curve) -> str:
    """A curve in words: the share of runs at each threshold."""
    at = ", ".join(f"{x:g}" for x in curve.at)
    lines = "; ".join(
        f"{name}: {', '.join(f'{y:.0%}' for y in shares)}"
        for name, shares in curve.lines.items()
    )
    return f"{curve.of} {at} (used: {curve.used:g}): {lines}"


def table(evidence: Evidence) -> str:
    """All claims as a Markdown table, then the changes of their rules: claim, source,
    verdict, effect, basis, rule, what LRD is, and the command that remakes the runs."""
    head = ["claim", "source", "verdict", "what we measured", "runs"]
    head += ["rule", "what LRD is", "remake with"]
    rows = [head, ["---"] * len(head)]
    for claim, found in findings(evidence):
        why = f" (provisional: {found.provisional})" if found.provisional else ""
        curve = f". By threshold: {curve_text(found.curve)}" if found.curve else ""
        cells = [claim.statement, claim.source, f"**{verdict_text(found)}**{why}"]
        cells += [found.effect + curve, found.basis, rule_text(claim)]
        cells += [lrd_text(claim) or "no LRD", f"`{found.command}`"]
        rows.append([cell.replace("|", "\\|") for cell in cells])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(
        [*lines, "", "Rules that were changed after runs existed:", "", *changes()]
    )


def changes() -> list[str]:
    """The changes as lines of a Markdown list."""
    lines = []
    for one in CHANGES:
        moved = (
            f" Verdict: {one.verdicts[0]}, then {one.verdicts[1]}." if one.verdicts else ""
        )
        side = f" Against {one.against}." if one.against else ""
        lines.append(
            f"- {one.day}, *{one.claim}*. Before: {one.before}. Now: {one.now}. Why: "
            f"{one.why}.{side}{moved}"
        )
    return lines


def cards(evidence: Evidence, shown: Mapping[str, tuple[str, str]] | None = None) -> str:
    """The same as HTML, a block per claim, which fits a phone; rule, LRD and command are
    folded. shown: by a claim's name, what shows it, in words, and its address."""
    blocks = []
    about = ""
    for claim, found in findings(evidence):
        if claim.about != about:
            about = claim.about
            blocks.append(f'<p class="lrd-about"><strong>{about}</strong></p>')
        blocks.append(_card(claim, found, (shown or {}).get(claim.name)))
    return "\n".join(blocks)


def _card(claim: Claim, found: Finding, shown: tuple[str, str] | None) -> str:
    effect = _marked(found.effect)
    if effect[:1].isascii():  # λ stays as it is
        effect = effect[:1].upper() + effect[1:]
    why = f" <em>Provisional: {found.provisional}.</em>" if found.provisional else ""
    seen = ", exploratory" if claim.after_runs else ""
    more = [f"<p><b>Rule.</b> {_marked(rule_text(claim))}.</p>"]
    here = "; LRD here" if claim.lrd else ""
    if lrd := lrd_text(claim):
        more.append(f"<p><b>LRD here.</b> {_marked(lrd)}.</p>")
    more.append(
        f"<p><b>Remake these runs.</b> <code>{html.escape(found.command)}</code></p>"
    )
    curve = sparkline(found.curve) if found.curve else ""
    if shown:
        words, address = (html.escape(part, quote=True) for part in shown)
        curve += f'<p>In the lab: <a href="{address}">{words}</a>.</p>'
    return (
        f'<div class="lrd-claim lrd-{found.verdict.replace(" ", "-")}" id="claim-{claim.name}">'
        f"<p><strong>{verdict_text(found)}</strong> {_marked(claim.statement)} "
        f"<small>({_marked(claim.source)})</small></p>"
        f"<p>{effect}. <small>{found.basis}.</small>{why}</p>"
        f"{curve}<details><summary>Rule of {claim.written}{seen}{here}</summary>"
        f"{''.join(more)}</details></div>"
    )


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
    for (name, shares), colour, dash in zip(
        curve.lines.items(), COLOURS, DASHES, strict=False
    ):
        points = " ".join(
            f"{x:.1f},{height(y):.1f}" for x, y in zip(xs, shares, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        keys.append(f'<span style="color: {colour}">■</span> {_marked(name)}')
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
