"""The map from sentences of the paper and the README to what judges them: every sentence is
named once, and every target exists."""

import re
from pathlib import Path

import pytest
from test_paper import places

from lrdlib.evidence.claims import CLAIMS, THEIRS
from lrdlib.evidence.sentences import SENTENCES, link, map_table

BOOK = Path(__file__).resolve().parent.parent / "book"
NAMES = {claim.name for claim in CLAIMS}

# how many sentences each place has, counted in arXiv 2606.04405v1 and in the README of the
# first public code (its bold lines, and the sentences that go on from them)
COUNTS = {
    "abstract": 6,
    "section 6.1": 3,
    "caption of Figure 1": 5,
    "section 6.2": 7,
    "caption of Figure 2": 4,
    "section 6.3": 11,
    "Table 1": 6,  # the caption, and five rows
    "README": 8,
}


@pytest.mark.parametrize("place", COUNTS)
def test_every_sentence_of_a_place_is_named(place):
    numbers = [one.number for one in SENTENCES if one.place == place]
    assert numbers == list(range(1, COUNTS[place] + 1))


def test_no_other_place_is_named():
    assert {one.place for one in SENTENCES} == set(COUNTS)


def test_words_tell_sentences_apart_and_quote_briefly():
    every = [one.words for one in SENTENCES]
    assert len(set(every)) == len(every)
    assert all(1 <= len(words.split()) <= 10 for words in every)


@pytest.mark.parametrize("target", sorted({t for one in SENTENCES for t in one.targets}))
def test_every_target_exists(target):
    if target.startswith("claim:"):
        assert target.removeprefix("claim:") in NAMES
        return
    page, _, label = target.partition("#")
    assert (BOOK / f"{page}.ipynb").exists()
    if label:
        assert places()[label.removeprefix("paper-")] == [page]


def test_every_sentence_is_judged_somewhere():
    assert all(one.targets for one in SENTENCES)


def test_claims_of_the_paper_and_readme_are_on_the_map():
    judged = {t.removeprefix("claim:") for one in SENTENCES for t in one.targets}
    of_section_6 = re.compile(r"6\.[123]|Table 1|abstract|README")
    # rows on what no sentence of these places says, and a row that repeats another's words
    elsewhere = {"other-optimisers"}
    for claim in CLAIMS:
        if claim.whose != THEIRS or claim.name in elsewhere:
            continue
        if of_section_6.search(claim.source):
            assert claim.name in judged, claim.name


def test_the_table_has_a_row_for_each_sentence():
    rows = map_table().splitlines()
    assert len(rows) == len(SENTENCES) + 2
    assert {row.count("|") for row in rows} == {4}
    assert all(
        link(t) in rows[i + 2] for i, one in enumerate(SENTENCES) for t in one.targets
    )
