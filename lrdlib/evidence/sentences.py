"""Each sentence of the paper's abstract, of its section 6 with Table 1 and the captions of
its figures, and of the first README's bold lines: which claim or which chapter judges it.

A sentence is named by its place, its number there, and its first words or others that tell
it apart. A target is a claim of lrdlib.evidence.claims, "claim:NAME", or a page of the
book, "page" or "page#label".
"""

from typing import NamedTuple

from lrdlib.evidence.results import markdown_table


class Sentence(NamedTuple):
    """A sentence of a source, and where it is judged."""

    place: str
    number: int
    words: str
    targets: tuple[str, ...]


def _numbered(place: str, *lines: tuple[str, str]) -> tuple[Sentence, ...]:
    """Sentences of a place, from their words and their targets, which spaces part."""
    return tuple(
        Sentence(place, i, words, tuple(targets.split()))
        for i, (words, targets) in enumerate(lines, 1)
    )


ABSTRACT = _numbered(
    "abstract",
    ("Modern Transformer architectures frequently employ", "scale_invariance"),
    ("In this regime, standard Frobenius-norm weight decay", "radial_gradient"),
    ("We study grokking in small algorithmic tasks", "nuclear_norm radial_gradient"),
    (
        "This distinction has a concrete dynamical consequence",
        "after_memorisation claim:stalls claim:unchanged",
    ),
    (
        "On modular arithmetic tasks, we find",
        "claim:collapse claim:wider-independent claim:less-data claim:other-tasks",
    ),
    ("We further provide a spectral-geometric interpretation", "needle_to_fan"),
)

PHASE = _numbered(
    "section 6.1",
    ("Figure 1 shows the phase diagram", "phase_diagram#paper-figure-1"),
    (
        "L2 weight decay achieves high test accuracy only",
        "claim:upper-right claim:upper-right-paper claim:wider-independent claim:sweet-spot",
    ),
    (
        "This expansion is consistent with the hypothesis",
        "claim:less-data claim:as-written claim:mechanism",
    ),
)
FIGURE_1 = _numbered(
    "caption of Figure 1",
    ("Phase diagram of modular-addition generalization", "phase_diagram#paper-figure-1"),
    ("Left: L2 decay", "phase_diagram#paper-figure-1"),
    ("Right: Spectral (LRD) decay", "phase_diagram#paper-figure-1"),
    ("Color indicates final test accuracy", "phase_diagram#paper-figure-1"),
    (
        "LRD expands the grokking boundary to lower data fractions",
        "claim:wider-independent claim:wider-published claim:less-data",
    ),
)

DYNAMICS = _numbered(
    "section 6.2",
    ("Figure 2 compares grokking speed", "rank_collapse#paper-figure-2"),
    ("LRD achieves test accuracy", "claim:speed-6-2 claim:faster claim:faster-published"),
    ("The effective rank of Query/Key matrices", "claim:rank-6-2 claim:l2-rank-6-2"),
    ("reveals a qualitative difference", "claim:tail-6-2"),
    ("Under L2, the spectrum decays more gradually", "claim:tail-6-2"),
    ("The bottom row of Figure 2", "rank_collapse#paper-figure-2"),
    ("L2 produces a noisy, unstructured pattern", "claim:pattern-6-2"),
)
FIGURE_2 = _numbered(
    "caption of Figure 2",
    ("Top left: Grokking speed", "rank_collapse#paper-figure-2"),
    ("Top center: Effective rank", "rank_collapse#paper-figure-2"),
    ("Top right: Normalized singular value spectrum", "rank_collapse#paper-figure-2"),
    ("Bottom: QK attention patterns", "rank_collapse#paper-figure-2"),
)

AFTER = _numbered(
    "section 6.3",
    ("A critical observation is the behavior", "after_memorisation#paper-section-6-3"),
    ("Once the model achieves perfect training accuracy", "after_memorisation"),
    ("In this regime:", "after_memorisation#paper-section-6-3"),
    ("but does not change the angular direction", "radial_gradient after_memorisation"),
    (
        "Since the network is scale-invariant, this has no",
        "scale_invariance claim:unchanged",
    ),
    ("The model remains trapped", "claim:stalls claim:trapped"),
    ("LRD continues to apply", "decay_step claim:without-gradient"),
    ("provides a directional update", "nuclear_norm decay_step"),
    ("This reshapes the singular spectrum", "claim:without-gradient claim:needed"),
    ("is the central mechanistic distinction", "claim:mechanism claim:tangential-adds"),
    ("Table 1 summarizes the key differences", "nuclear_norm#paper-table-1"),
)

TABLE_1 = _numbered(
    "Table 1",
    ("Comparison of L2 and LRD regularization", "nuclear_norm#paper-table-1"),
    ("Penalty", "nuclear_norm"),
    ("(multiplicative)", "nuclear_norm decay_step"),
    ("Stable rank", "claim:unchanged claim:collapse"),
    ("(radial)", "radial_gradient claim:mechanism"),
    ("Inert (scale-invariant)", "claim:stalls claim:trapped claim:without-gradient"),
)

README = _numbered(
    "README",
    ("TL;DR: In modern LLM architectures", "radial_gradient claim:trapped"),
    ("We introduce Low-Rank Decay, an efficient", "polar_factor"),
    (
        "It aggressively prunes",
        "claim:much-faster claim:much-faster-published claim:collapse claim:without-gradient",
    ),
    (
        "Low-Rank Decay significantly expands the grokking region",
        "claim:wider-published claim:less-data",
    ),
    (
        "While L2 decay fails to generalize in data-scarce",
        "claim:wider-published claim:upper-right claim:perfect",
    ),
    ("Rank collapse is a pre-condition for generalization", "claim:pre-condition"),
    ("Our method induces a spectral phase transition", "claim:collapse claim:precedes"),
    ("This creates a low-dimensional manifold", "claim:needed claim:qk-alone"),
)

SENTENCES = (
    *ABSTRACT,
    *PHASE,
    *FIGURE_1,
    *DYNAMICS,
    *FIGURE_2,
    *AFTER,
    *TABLE_1,
    *README,
)


def map_table() -> str:
    """The map as a Markdown table for a page of the book: claims as links to their cards,
    chapters as links to their pages or to a place there."""
    rows = [
        (f"{place}, {number}", f"{words} …", ", ".join(map(link, targets)))
        for place, number, words, targets in SENTENCES
    ]
    return markdown_table(("sentence", "words", "judged in"), rows)


def link(target: str) -> str:
    """A target as a link of the book's Markdown; a claim's card is on the same page.

    >>> link("claim:faster"), link("decay_step"), link("phase_diagram#paper-figure-1")
    ('<a href="#claim-faster">faster</a>', '{doc}`decay_step`', '{ref}`figure 1 \
<paper-figure-1>`')
    """
    if target.startswith("claim:"):
        name = target.removeprefix("claim:")
        return f'<a href="#claim-{name}">{name}</a>'
    page, mark, label = target.partition("#")
    if not mark:
        return f"{{doc}}`{page}`"
    kind, *numbers = label.removeprefix("paper-").split("-")
    return f"{{ref}}`{kind} {'.'.join(numbers)} <{label}>`"
