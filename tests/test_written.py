"""Numbers and tables as they are written, by what reads them: JSON, and a page's Markdown."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrdlib.evidence.written import four_digits, markdown_table


@given(st.floats(-1e300, 1e300) | st.sampled_from([math.inf, -math.inf, math.nan]))
def test_a_number_is_within_half_of_its_fourth_digit_or_there_is_none(value):
    short = four_digits(value)
    assert json.loads(json.dumps(short, allow_nan=False)) == short
    if not math.isfinite(value):
        assert short is None
        return
    assert short == float(f"{short:.3e}")  # no digit beyond the fourth
    assert abs(short - value) <= 0.5001e-3 * abs(value) or abs(value) < 1e-300


def test_a_float32_is_read_for_what_it_is():
    assert four_digits(np.float32(0.1)) == 0.1
    assert four_digits(np.float32("inf")) is None


def cells(line):
    """What Markdown takes for the cells of a line."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@given(
    st.lists(st.lists(st.text("ab |$λ", max_size=5), min_size=2, max_size=2), max_size=4)
)
def test_every_text_is_a_cell_of_its_own(rows):
    lines = markdown_table(["n", "size"], rows).splitlines()
    assert cells(lines[0]) == ["n", "size"] and lines[1] == "| --- | --- |"
    assert [cells(line) for line in lines[2:]] == [
        [cell.strip() for cell in row] for row in rows
    ]


def test_a_table_without_rows_is_its_head():
    assert markdown_table(["n"], []) == "| n |\n| --- |"


@pytest.mark.parametrize("row", [[], ["1"], ["1", "2", "3"]])
def test_a_row_has_a_cell_for_each_head(row):
    with pytest.raises(ValueError, match=f"rows must have 2 cells each, got {len(row)} in"):
        markdown_table(["n", "size"], [["1", "2"], row])
