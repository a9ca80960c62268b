"""The clock whose hands are dragged: what is drawn is a + b by angles, by Python where the
picture starts, and by its script wherever the hands are dragged to."""

import json
import math
import re

import numpy as np
import pytest

from lrdlib.figures.clock import (
    BOX,
    CURVE,
    LENGTHS,
    MIDDLE,
    NUMBERS,
    clock,
    clock_logits,
    place,
)

P, KEYS = 29, (1, 5, 12)


def picture(a=7, b=25, **options):
    return clock(a, b, **{"alt": "A <clock>."} | options)


def spot(number, k, radius):
    """Where a number stands: k times around the clock, from the top."""
    angle = 2 * math.pi * k * number / P
    return MIDDLE + radius * math.sin(angle), MIDDLE - radius * math.cos(angle)


def still(html):
    """Of the picture: the tips of the hands, the places of the numbers, the curve."""
    tips = re.findall(r'data-hand="(\w+)">.*?<circle cx="([\d.]+)" cy="([\d.]+)"', html)
    marks = re.findall(r'data-number="(\d+)" x="([\d.]+)" y="([\d.]+)"', html)
    curve = re.search(r'data-line="logits" points="([^"]+)"', html)[1]
    return (
        {hand: (float(x), float(y)) for hand, x, y in tips},
        {int(n): (float(x), float(y)) for n, x, y in marks},
        [tuple(map(float, point.split(","))) for point in curve.split()],
    )


def heights(points):
    """From places of the curve back to logits."""
    _, top, _, bottom = BOX
    y = np.array([y for _, y in points])
    return 1.05 - (y - top) / (CURVE[1] - top - bottom) * 2.1


def expected(s, keys):
    """The logits of all answers, one by one."""
    return [sum(math.cos(2 * math.pi * k * (s - c) / P) for k in keys) / len(keys)
            for c in range(P)]  # fmt: skip


def check(found, a, b, k, keys):
    """That tips, numbers and curve are those of a + b, to the last digit written."""
    tips, marks, curve = found
    for hand, number in (("a", a), ("b", b), ("sum", a + b)):
        assert tips[hand] == pytest.approx(spot(number, k, LENGTHS[hand]), abs=0.06)
    for number, at in marks.items():
        assert at == pytest.approx(spot(number, k, NUMBERS), abs=0.06)
    assert sorted(marks) == list(range(P)) and len(set(marks.values())) == P
    # a tenth of a unit of the picture is 0.0008 of a logit
    np.testing.assert_allclose(heights(curve), expected(a + b, keys), atol=5e-4)


# ---- the arithmetic


@pytest.mark.parametrize("keys", [[1], [5], [12], list(KEYS)])
def test_the_sum_has_the_largest_logit(keys):
    for s in range(2 * P - 1):
        logits = clock_logits(s, keys, p=P)
        np.testing.assert_allclose(logits, expected(s, keys), atol=1e-12)
        assert logits.argmax() == s % P and logits.max() == pytest.approx(1)


def test_one_clock_has_a_thin_margin_and_more_have_a_wider_one():
    def margin(keys):
        return 1 - np.sort(clock_logits(0, keys, p=P))[-2]

    for k in range(1, P // 2 + 1):
        assert margin([k]) == pytest.approx(1 - math.cos(2 * math.pi / P))
    assert margin(KEYS) > 5 * margin([1])


def test_every_mark_has_one_number():
    for k in range(1, P // 2 + 1):
        assert sorted(place(n, k, p=P) for n in range(P)) == list(range(P))


# ---- the still picture


def test_it_shows_the_hands_the_numbers_and_the_logits():
    html = picture()
    assert 'aria-label="A &lt;clock&gt;."' in html
    check(still(html), 7, 25, 1, [1])
    check(still(picture(3, 28, keys=(5, 2))), 3, 28, 5, [5])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: picture(alt=" "), ValueError, "alt must say what the picture shows"),
        (lambda: picture(a=29), ValueError, "a must be an integer <= 28"),
        (lambda: picture(b=-1), ValueError, "b must be an integer >= 0"),
        (lambda: picture(a=1.5), TypeError, "a must be an integer"),
        (lambda: picture(p=27), ValueError, "p must be an odd prime, got 27"),
        (lambda: picture(p=2), ValueError, "p must be an integer >= 3"),
        (lambda: picture(keys=()), TypeError, "keys must be a list of frequencies"),
        (lambda: picture(keys=(1, 15)), ValueError, r"keys\[1\] must be an integer <= 14"),
        (lambda: clock_logits(1.5, [1], p=5), TypeError, "s must be an integer"),
        (lambda: place(1, 0, p=5), ValueError, r"keys\[0\] must be an integer >= 1"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- on a page


@pytest.fixture
def page(tmp_path):
    from browser import write_page

    body = f'{picture()}<p style="height:60rem"></p>'
    return write_page(
        tmp_path, body, sheets=("figures.css", "clock.css", "drag.css"), script="clock.js"
    )


@pytest.fixture
def seen(chromium, page):
    from browser import serve, visit

    with serve(page) as site, visit(chromium, f"{site}/page.html") as seen:
        yield seen
        assert seen.errors == []


def drawn(seen):
    """The picture as it is now, once its frame is drawn."""
    return still(
        seen.page.evaluate(
            """async () => {
                const frame = () => new Promise((done) => requestAnimationFrame(done));
                await frame();
                await frame();
                return document.querySelector(".lrd-clock").outerHTML;
            }"""
        )
    )


def test_the_script_begins_with_the_picture_that_stands_there(seen):
    assert seen.page.locator(".lrd-clock").get_attribute("data-drawn") == ""
    check(drawn(seen), 7, 25, 1, [1])
    said = seen.page.locator(".said").inner_text()
    assert said.startswith("7 + 25 = 32, a whole turn more than 3.")


def test_a_hand_follows_the_mouse_to_the_nearest_number(seen):
    box = seen.page.locator(".stage").bounding_box()

    def go(number, k, radius):
        x, y = spot(number, k, radius)
        unit = box["width"] / (2 * MIDDLE)
        seen.page.mouse.move(box["x"] + x * unit, box["y"] + y * unit)

    go(7, 1, LENGTHS["a"])
    seen.page.mouse.down()
    go(10.3, 1, 60)  # not on a mark: the nearest is 10
    check(drawn(seen), 10, 25, 1, [1])
    seen.page.mouse.up()
    go(20, 1, 60)  # let go: it stays
    check(drawn(seen), 10, 25, 1, [1])


def test_the_keys_turn_a_hand_at_every_frequency(seen):
    a = seen.page.get_by_role("slider", name="a: arrow keys")
    b = seen.page.get_by_role("slider", name="b: arrow keys")
    for key in ("ArrowRight", "ArrowUp", "PageDown"):
        a.press(key)  # 7 + 1 + 1 - 5
    for key in ("End", "ArrowRight", "ArrowLeft", "ArrowDown"):
        b.press(key)  # 28, 0, 28, 27
    check(drawn(seen), 4, 27, 1, [1])
    assert b.get_attribute("aria-valuetext") == "b = 27"
    for k in KEYS:
        seen.page.get_by_role("button", name=f"k = {k}", exact=True).click()
        check(drawn(seen), 4, 27, k, [k])
    seen.page.get_by_role("button", name="all 3 clocks").click()
    check(drawn(seen), 4, 27, 12, KEYS)
    margin = 1 - np.sort(clock_logits(0, KEYS, p=P))[-2]
    assert f"lower by {margin:.3f}." in seen.page.locator(".said").inner_text()
    a.press("Home")
    check(drawn(seen), 0, 27, 12, KEYS)
    assert "0 + 27 = 27. The largest" in seen.page.locator(".said").inner_text()


def test_a_finger_turns_a_hand_and_scrolls_beside_it(chromium, page):
    from browser import serve, under_a_finger

    with serve(page) as site, under_a_finger(chromium, f"{site}/page.html") as seen:
        opened, swipe_up = seen
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        handle = opened.locator(".handle").first
        box = handle.bounding_box()
        assert min(box["width"], box["height"]) >= 44
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        assert swipe_up(x, y) == 0  # held: the page stays, the hand turns
        turned = handle.get_attribute("aria-valuetext")
        assert turned != "a = 7" and int(turned[4:]) < 7
        assert swipe_up(x, y + 300) > 0  # below the face: the page's
        assert handle.get_attribute("aria-valuetext") == turned


def test_its_data_is_all_that_the_script_needs():
    data = json.loads(re.search(r"<script[^>]*>(.*)</script>", picture())[1])
    assert (data["a"], data["b"], data["p"], data["keys"]) == (7, 25, P, list(KEYS))
