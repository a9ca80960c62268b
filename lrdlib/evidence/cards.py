"""Claims and their findings in words: a Markdown table, and what the cards of a page say
(lrdlib.figures.claims).

What a page folds away the table has in full. A verdict that depends on a threshold comes
with its curve, the share of runs by the threshold.
"""

from lrdlib.evidence.claims import CHANGES, Claim, findings
from lrdlib.evidence.judging import Curve, Evidence, Finding
from lrdlib.evidence.results import markdown_table
from lrdlib.training.config import TrainConfig


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
    rows = []
    for claim, found in findings(evidence):
        why = f" (provisional: {found.provisional})" if found.provisional else ""
        curve = f". By threshold: {curve_text(found.curve)}" if found.curve else ""
        cells = [claim.statement, claim.source, f"**{verdict_text(found)}**{why}"]
        cells += [found.effect + curve, found.basis, rule_text(claim)]
        cells += [lrd_text(claim) or "no LRD", f"`{found.command}`"]
        rows.append(cells)
    after = ["", "Rules that were changed after runs existed:", "", *changes()]
    return "\n".join([markdown_table(head, rows), *after])


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
