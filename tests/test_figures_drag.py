"""Pictures that are dragged: the paths drawn are those of lrdlib.decay and lrdlib.polar, by
Python where the picture starts, and by its script wherever it is dragged to."""

import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrdlib.decay import frobenius_decay_, low_rank_decay_, proximal_decay_
from lrdlib.figures.cylinder import cylinder, meridian, slopes, turned
from lrdlib.figures.cylinder import seen as cylinder_seen
from lrdlib.figures.directions import (
    ARC,
    arrow,
    arrows,
    corners,
    hollow,
    nearest,
    parted,
    parts,
    potential,
    settled,
    wells,
)
from lrdlib.figures.drag import (
    RULES,
    decayed,
    iterated,
    iterates,
    plane,
    spectrum,
    staircase,
)
from lrdlib.geometry import scaled_nuclear_norm
from lrdlib.polar import polar_factor

BARS = [1.0, 0.8, 0.57, 0.3, 0.13]
PICTURES = {
    "plane": lambda **options: plane(**{"alt": "A <point>."} | options),
    "spectrum": lambda values=BARS, **options: spectrum(
        values, **{"alt": "Bars."} | options
    ),
    "iterates": lambda **options: iterates(**{"alt": "Stairs."} | options),
    "arrows": lambda **options: arrows(**{"alt": "Arrows."} | options),
    "parts": lambda **options: parts(**{"alt": "Parts."} | options),
    "wells": lambda **options: wells(**{"alt": "Wells."} | options),
    "corners": lambda **options: corners(**{"alt": "Corners."} | options),
    "cylinder": lambda **options: cylinder(**{"alt": "A cylinder."} | options),
}


def lines_of(html):
    """The points of every named line, as arrays (n, 2) in the picture's own units."""
    found = re.findall(r'data-line="([^"]+)" points="([^"]+)"', html)
    return {name: pairs(points) for name, points in found}


def pairs(points):
    return np.array([[float(v) for v in pair.split(",")] for pair in points.split()])


def data_of(html):
    return json.loads(re.search(r"<script[^>]*>(.*)</script>", html)[1])


def values_of(points, panel):
    """From places in a panel back to numbers."""
    (left, top, right, bottom), (width, height) = panel["box"], panel["size"]
    (x0, x1), (y0, y1) = panel["x"], panel["y"]
    x = x0 + (points[:, 0] - left) / (width - left - right) * (x1 - x0)
    y = y1 - (points[:, 1] - top) / (height - top - bottom) * (y1 - y0)
    return x, y


# ---- the arithmetic


def full_matrix(values):
    """U (5, 3), W (5, 5) and V (5, 3) with W = U diag(values) V^T, in double precision."""
    U, V = (
        torch.linalg.qr(
            torch.randn(
                5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
        )[0]
        for seed in (0, 1)
    )
    return U, (U * torch.tensor(values, dtype=torch.float64)) @ V.T, V


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scaled", [True, False])
def test_a_path_is_step_after_step_of_the_rule(rule, scaled):
    """On a full matrix with these singular values: u_i^T W v_i."""
    values = [0.9, 0.5, 0.04]
    U, W, V = full_matrix(values)
    scale = "norm" if scaled else None
    expected = [values]
    for _ in range(7):
        if rule == "l2":
            frobenius_decay_(W, weight_decay=0.03)
        elif rule == "low_rank":
            low_rank_decay_(W, weight_decay=0.03, scale=scale, method="svd")
        else:
            proximal_decay_(W, weight_decay=0.03, scale=scale)
        expected.append((U * (W @ V)).sum(0).tolist())
    found = decayed(rule, values, t=0.03, steps=7, scaled=scaled)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("method", ["cubic", "quintic"])
def test_iterates_are_those_of_the_polar_iteration(method):
    """The largest singular value of a matrix of Frobenius norm 1."""
    x = 0.3
    W = torch.diag(torch.tensor([x, (1 - x**2) ** 0.5], dtype=torch.float64))
    found = iterated(method, x, steps=6)
    for k in range(1, 7):
        P = polar_factor(W, method=method, steps=k)
        assert found[k] == pytest.approx(float(P[0, 0]), abs=1e-12)


def test_stairs_touch_the_curve_and_the_diagonal_in_turn():
    x = iterated("cubic", 0.3, steps=4)
    across, up = staircase(x)
    assert (across[0], up[0]) == (0.3, 0.0)
    np.testing.assert_allclose(up[1::2], (3 * across[1::2] - across[1::2] ** 3) / 2)
    np.testing.assert_array_equal(up[2::2], across[2::2])


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("part", ["both", "radial", "tangential"])
def test_a_part_of_a_step_is_split_by_the_inner_product(part, held):
    """On a full matrix with these singular values; G = |W| polar / |polar|."""
    values = [0.9, 0.5, 0.3]
    U, W, V = full_matrix(values)
    first, expected = W.norm(), [values]
    for _ in range(5):
        G = W.norm() / 3**0.5 * U @ V.T
        radial = (G * W).sum() / W.norm() ** 2 * W
        W = W - 0.04 * {"both": G, "radial": radial, "tangential": G - radial}[part]
        W = W * (first / W.norm()) if held else W
        expected.append((U * (W @ V)).sum(0).tolist())
    found = parted(part, values, t=0.04, steps=5, held=held)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_no_point_of_disc_or_square_is_nearer(x, y):
    disc, square = nearest(x, y)
    around = np.linspace(0, 2 * np.pi, 721)
    circle = np.stack([np.cos(around), np.sin(around)])
    for found, edge in (
        (disc, circle),
        (square, circle / np.abs(circle).sum(0)),
    ):
        size = np.linalg.norm(found) if edge is circle else np.abs(found).sum()
        assert size <= 1 + 1e-12
        if found != (x, y):  # outside: no point of the edge is nearer
            others = np.hypot(edge[0] - x, edge[1] - y)
            assert np.hypot(found[0] - x, found[1] - y) <= others.min() + 1e-12
        else:
            assert (np.hypot(x, y) if edge is circle else abs(x) + abs(y)) <= 1 + 1e-12


@given(st.integers(*ARC), st.floats(0, 4))
def test_a_point_settles_at_the_foot_of_its_slope(degrees, pressure):
    """All the way down to a least value, and no rise before it."""
    end = settled(degrees, pressure)
    way = potential(np.arange(min(degrees, end), max(degrees, end) + 1), pressure)
    assert (np.diff(way if end > degrees else way[::-1]) <= 0).all()
    beside = [x for x in (end - 1, end + 1) if ARC[0] <= x <= ARC[1]]
    assert potential(end, pressure) <= potential(np.array(beside), pressure).min()


def test_the_wells_are_the_loss_and_the_scaled_nuclear_norm_on_the_circle():
    for degrees in (-20.0, 10.0, 45.0, 100.0):
        x = math.radians(degrees)
        W = 2.0 * torch.diag(torch.tensor([math.cos(x), math.sin(x)], dtype=torch.float64))
        lam = 0.3  # lambda rho^2 = 1.2
        decay = lam * float(scaled_nuclear_norm(W))
        shift = 1.2 / 2**0.5  # at rank one
        loss = float(hollow(degrees, at=30, sharp=8.0)[0])
        assert potential(degrees, 1.2) == pytest.approx(loss + decay - shift, abs=1e-12)


@given(st.floats(-180, 180))
def test_the_slope_of_the_hollow_is_its_derivative(degrees):
    h = 1e-3
    up, down = (hollow(degrees + d, at=60, sharp=1.5)[0] for d in (h, -h))
    slope = (up - down) / (2 * math.radians(h))
    assert hollow(degrees, at=60, sharp=1.5)[1] == pytest.approx(slope, abs=1e-6)


def test_an_arrow_ends_where_it_points():
    xs, ys = arrow(1.0, 2.0, 0.6, -0.8)
    assert (xs[0], ys[0]) == (1.0, 2.0)
    assert (xs[1], ys[1]) == (xs[3], ys[3]) == (1.6, 1.2)
    barbs = np.array([[xs[i] - 1.6, ys[i] - 1.2] for i in (2, 4)])
    along, across = barbs @ [0.6, -0.8], barbs @ [0.8, 0.6]
    assert (along < 0).all() and across[0] == pytest.approx(-across[1])


# ---- the still picture


def test_the_plane_shows_the_paths():
    html = plane(start=(0.7, 0.33), t=0.05, steps=12, alt="A <point>.")
    assert 'aria-label="A &lt;point&gt;."' in html
    lines, panels = lines_of(html), data_of(html)["panels"]
    for rule in RULES:
        path = decayed(rule, [0.7, 0.33], t=0.05, steps=12, scaled=False)
        x, y = values_of(lines[rule], panels["plane"])
        # a tenth of a unit of the picture is 0.0004 of a singular value
        np.testing.assert_allclose(np.stack([x, y], 1), path, atol=4e-4)
        for i in (0, 1):
            k, value = values_of(lines[f"{rule}-{i}"], panels["steps"])
            np.testing.assert_allclose(value, path[:, i], atol=4e-4)
            np.testing.assert_allclose(k, range(13), atol=4e-3)


def test_the_bars_show_a_spectrum_before_and_after():
    html = PICTURES["spectrum"](steps=9)
    lines, panel = lines_of(html), data_of(html)["panels"]["bars"]
    after = decayed("low_rank", BARS, t=0.02, steps=9, scaled=True)[-1]
    for i, (old, new) in enumerate(zip(BARS, after, strict=True)):
        for name, value in ((f"before-{i}", old), (f"after-{i}", new)):
            x, y = values_of(lines[name], panel)
            np.testing.assert_allclose(y, [0, value, value, 0], atol=5e-4)
            assert (np.abs(x - (i + 0.5)) < 0.35).all()


def test_the_stairs_show_the_iterates():
    html = PICTURES["iterates"](start=1.9, steps=8)
    lines, panels = lines_of(html), data_of(html)["panels"]
    x = iterated("cubic", 1.9, steps=8)
    assert x[1] < 0 and x[-1] == pytest.approx(-1, abs=1e-6)  # beyond the root of 3
    np.testing.assert_allclose(values_of(lines["path"], panels["steps"])[1], x, atol=2e-3)
    stairs = np.stack(values_of(lines["stairs"], panels["stairs"]))
    np.testing.assert_allclose(stairs, staircase(x), atol=2e-3)


def test_the_arrows_are_tangential_and_radial():
    html = PICTURES["arrows"](length=0.5, direction=20, decay=1.2)
    lines, panels = lines_of(html), data_of(html)["panels"]
    e = np.array([math.cos(math.radians(20)), math.sin(math.radians(20))])

    def drawn_arrow(name):
        x, y = values_of(lines[name], panels["weights"])
        np.testing.assert_allclose([x[0], y[0]], 0.5 * e, atol=1e-3)
        return np.array([x[1] - x[0], y[1] - y[0]])

    gradient, decay = drawn_arrow("gradient"), drawn_arrow("decay")
    slope = float(hollow(20, at=60, sharp=1.5)[1])
    assert abs(gradient @ e) < 2e-3  # a tenth of a unit of the picture is 0.001
    assert np.linalg.norm(gradient) == pytest.approx(0.45 * abs(slope) / 0.5, abs=2e-3)
    np.testing.assert_allclose(decay, -0.45 * 1.2 * 0.5 * e, atol=2e-3)
    angle, loss = values_of(lines["loss"], panels["seen"])
    np.testing.assert_allclose(loss, hollow(angle, at=60, sharp=1.5)[0], atol=2e-3)


def test_the_arrows_of_the_parts_add_up_to_the_step():
    html = PICTURES["parts"](start=(0.8, 0.3))
    lines, panel = lines_of(html), data_of(html)["panels"]["plane"]
    drawn_arrows = {}
    for part in ("both", "radial", "tangential"):
        x, y = values_of(lines[part], panel)
        drawn_arrows[part] = np.array([x[1] - x[0], y[1] - y[0]])
    W, scale = np.array([0.8, 0.3]), (0.73 / 2) ** 0.5
    np.testing.assert_allclose(drawn_arrows["both"], -0.5 * scale * np.ones(2), atol=1e-3)
    total = drawn_arrows["radial"] + drawn_arrows["tangential"]
    np.testing.assert_allclose(total, drawn_arrows["both"], atol=2e-3)
    assert abs(drawn_arrows["tangential"] @ W) < 1e-3


def test_the_wells_are_drawn_over_the_arc():
    html = PICTURES["wells"](start=60, pressure=1.5)
    lines, panels = lines_of(html), data_of(html)["panels"]
    at, height = values_of(lines["sum"], panels["potential"])
    np.testing.assert_allclose(height, potential(at, 1.5), atol=3e-2)  # steep at rank one
    x, y = values_of(lines["over"], panels["arc"])
    line = np.arange(ARC[0], ARC[1] + 1)
    np.testing.assert_allclose(np.degrees(np.arctan2(y, x)), line, atol=0.1)
    np.testing.assert_allclose(np.hypot(x, y), 1.05 + 0.5 * potential(line, 1.5), atol=2e-3)
    way, _ = values_of(lines["descent"], panels["potential"])
    assert way[[0, -1]] == pytest.approx([60, settled(60, 1.5)], abs=0.1)


def matrix_at(out, z, degrees):
    """The symmetric matrix that lies at this place of the cylinder's space."""
    x, y, z = (float(v) for v in turned(out, z, degrees))
    a, b, c = (z + x) / 2**0.5, y / 2**0.5, (z - x) / 2**0.5
    return torch.tensor([[a, b], [b, c]], dtype=torch.float64)


@pytest.mark.parametrize("second", [0.5, 0.31, 0.0, -0.4, -0.99, -1.0])
@pytest.mark.parametrize("degrees", [-150, 25])
def test_the_arrows_on_the_cylinder_are_the_subgradients(second, degrees):
    """G is one if <G, W> = |W|_* and |G|_2 <= 1; at rank one the fan has both ends, of
    singular values 1 and 1."""
    W = matrix_at(*meridian(second), degrees)
    found = torch.linalg.eigvalsh(W).tolist()
    assert found == pytest.approx(sorted([second, 1 - abs(second)]), abs=1e-12)
    G = [matrix_at(*slope, degrees) for slope in slopes(second)]
    for one in G:
        assert float((one * W).sum()) == pytest.approx(1, abs=1e-12)
        assert float(torch.linalg.matrix_norm(one, 2)) <= 1 + 1e-12
    ends = [torch.linalg.svdvals(one).tolist() for one in (G[0], G[-1])]
    np.testing.assert_allclose(ends, 1, atol=1e-12)
    if second in (0, -1):
        assert float(torch.linalg.matrix_norm(G[0] - G[-1])) == pytest.approx(2)
    else:
        expected = polar_factor(W, method="svd")
        assert all(torch.allclose(one, expected, atol=1e-9) for one in G)


def test_the_cylinder_is_drawn_as_it_is_seen():
    html = PICTURES["cylinder"](second=0.0, degrees=35)
    lines, panels = lines_of(html), data_of(html)["panels"]
    for name in ("seen-0", "seen-6"):
        u, v = values_of(lines[name], panels["space"])
        slope = slopes(0.0)[int(name[-1])] / 2
        ends = turned([0.5**0.5, 0.5**0.5 + slope[0]], [0.5**0.5, 0.5**0.5 + slope[1]], 35)
        np.testing.assert_allclose([u[:2], v[:2]], cylinder_seen(ends), atol=2e-3)
    right, up = values_of(lines["top"], panels["space"])
    across = 0.5**0.5 * math.cos(math.radians(25))  # the middle of the rim, as it is seen
    np.testing.assert_allclose(
        np.hypot(right, (up - across) / math.sin(math.radians(25))), 0.5**0.5, atol=6e-3
    )
    out, z = values_of(lines["slope-6"], panels["cut"])
    assert out[1] - out[0] == pytest.approx(0.5**0.5, abs=2e-3)
    assert z[:2] == pytest.approx([0.5**0.5] * 2, abs=2e-3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plane(alt=" "), ValueError, "alt must say what the picture shows"),
        (lambda: plane(alt="x", start=(0.5,)), ValueError, "start must hold 2 numbers"),
        (lambda: plane(alt="x", start=0.5), TypeError, "start must be a list of numbers"),
        (
            lambda: plane(alt="x", start=(1.5, 0)),
            ValueError,
            r"start\[0\] must be a finite number >= 0 and <= 1",
        ),
        (lambda: plane(alt="x", t=0), ValueError, "t must be .* >= 0.002 and <= 0.13, got"),
        (
            lambda: plane(alt="x", t=0.2),
            ValueError,
            "t must be .* >= 0.002 and <= 0.13, got",
        ),
        (lambda: plane(alt="x", steps=0), ValueError, "steps must be an integer >= 1"),
        (lambda: plane(alt="x", steps=1.5), TypeError, "steps must be an integer"),
        (lambda: spectrum([], alt="x"), ValueError, "values must hold some numbers"),
        (
            lambda: spectrum([-1], alt="x"),
            ValueError,
            r"values\[0\] must be .* >= 0 and <= 1",
        ),
        (lambda: spectrum([0.1] * 13, alt="x"), ValueError, "values must be at most 12"),
        (
            lambda: iterates(alt="x", start=3),
            ValueError,
            "start must be .* >= -2.4 and <= 2.4",
        ),
        (lambda: iterates(alt="x", method="svd"), ValueError, "method must be one of"),
        (
            lambda: arrows(alt="x", length=0.1),
            ValueError,
            "length must be .* >= 0.3 and <= 1.3",
        ),
        (
            lambda: arrows(alt="x", direction=200),
            ValueError,
            "direction must be .* >= -180",
        ),
        (lambda: arrows(alt="x", direction=0.5), TypeError, "direction must be an int"),
        (
            lambda: arrows(alt="x", decay=3),
            ValueError,
            "decay must be .* >= 0.0 and <= 2.0",
        ),
        (lambda: parts(alt="x", part="half"), ValueError, "part must be one of"),
        (
            lambda: parts(alt="x", start=(2, 0)),
            ValueError,
            r"start\[0\] must be .* >= 0 and",
        ),
        (
            lambda: wells(alt="x", start=121),
            ValueError,
            "degrees must be .* >= -30 and <= 120",
        ),
        (
            lambda: wells(alt="x", pressure=9),
            ValueError,
            "pressure must be .* >= 0.0 and <= 4.0",
        ),
        (
            lambda: corners(alt="x", start=(3, 0)),
            ValueError,
            r"start\[0\] must be .* >= -2",
        ),
        (
            lambda: cylinder(alt="x", second=0.6),
            ValueError,
            "second must be .* >= -1.* and <= 0.5",
        ),
        (lambda: cylinder(alt="x", degrees=181), ValueError, "degrees must be an integer"),
        (lambda: cylinder(alt="x", degrees=0.5), TypeError, "degrees must be an int"),
        (lambda: corners(alt=""), ValueError, "alt must say what the picture shows"),
        (
            lambda: decayed("elastic", [1.0], t=0.1, steps=1, scaled=True),
            ValueError,
            "rule must be one of",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- on a page


@pytest.fixture
def page(tmp_path):
    from browser import write_page

    body = "".join(make() for make in PICTURES.values())
    return write_page(tmp_path, body, sheets=("figures.css", "drag.css"), script="drag.js")


@pytest.fixture
def seen(chromium, page):
    from browser import serve, visit

    with serve(page) as site, visit(chromium, f"{site}/page.html") as seen:
        yield seen
        assert seen.errors == []


def drawn(seen, kind):
    """The named lines of a picture as they are now, once its frame is drawn."""
    found = seen.page.evaluate(
        """async (kind) => {
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            const lines = document.querySelectorAll(`[data-kind="${kind}"] [data-line]`);
            return [...lines].map((line) => [line.dataset.line, line.getAttribute("points")]);
        }""",
        kind,
    )
    return {name: pairs(points) for name, points in found}


def assert_same(found, expected):
    """To one unit of the last digit that is written."""
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert found[name].shape == points.shape, name
        np.testing.assert_allclose(found[name], points, atol=0.11, err_msg=name)


def part(seen, kind):
    return seen.page.locator(f'[data-kind="{kind}"]')


@pytest.mark.parametrize("kind", PICTURES)
def test_the_script_begins_with_the_picture_that_stands_there(seen, kind):
    assert part(seen, kind).get_attribute("data-drawn") == ""
    assert_same(drawn(seen, kind), lines_of(PICTURES[kind]()))


def test_the_plane_follows_the_mouse_the_keys_and_the_slider(seen):
    stage = part(seen, "plane").locator(".stage").first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    handle = part(seen, "plane").get_by_role("slider", name="W = diag")

    def at(x, y):
        """The place of (x, y) on the screen."""
        return (
            box["x"] + (46 + (x + 0.15) / 1.2 * 302) / 360 * box["width"],
            box["y"] + (10 + (1.05 - y) / 1.2 * 290) / 340 * box["height"],
        )

    seen.page.mouse.move(*at(0.83, 0.41))
    seen.page.mouse.down()
    for x, y in ((0.5, 0.7), (0.33, 0.77)):
        seen.page.mouse.move(*at(x, y))
    assert_same(drawn(seen, "plane"), lines_of(PICTURES["plane"](start=(0.33, 0.77))))
    seen.page.mouse.up()
    seen.page.mouse.move(*at(0.9, 0.9))  # let go: it stays
    assert handle.get_attribute("aria-valuetext") == "σ₁ = 0.33, σ₂ = 0.77"

    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowDown", "PageDown"):
        handle.press(key)
    part(seen, "plane").get_by_role("slider", name="t", exact=True).fill("0.07")
    expected = PICTURES["plane"](start=(0.44, 0.66), t=0.07)
    assert_same(drawn(seen, "plane"), lines_of(expected))
    said = part(seen, "plane").locator(".said").inner_text()
    ends = [
        decayed(rule, [0.44, 0.66], t=0.07, steps=60, scaled=False)[-1] for rule in RULES
    ]
    for end in ends:
        words = ", ".join(f"{v:.2f}".replace("-0.00", "0.00") for v in end)
        assert f"({words.replace('-', '−')})" in said
    handle.press("End")
    drawn(seen, "plane")
    assert handle.get_attribute("aria-valuetext") == "σ₁ = 1.00, σ₂ = 0.66"


def test_a_bar_follows_the_keys_and_all_others_feel_it(seen):
    bars = part(seen, "spectrum").locator(".handle")
    assert bars.count() == len(BARS)
    before = drawn(seen, "spectrum")
    for _ in range(3):
        bars.nth(4).press("PageUp")
    values = [*BARS[:4], 0.43]
    now = drawn(seen, "spectrum")
    assert_same(now, lines_of(PICTURES["spectrum"](values)))
    assert now["after-0"][1, 1] > before["after-0"][1, 1]  # down the page: it lost more
    assert bars.nth(4).get_attribute("aria-valuetext").startswith("σ5 = 0.43, then 0.")
    part(seen, "spectrum").get_by_role("slider", name="steps").fill("7")
    for name, rule in (("L2", "l2"), ("proximal", "proximal"), ("low rank", "low_rank")):
        button = part(seen, "spectrum").get_by_role("button", name=name)
        button.click()
        now = drawn(seen, "spectrum")
        assert button.get_attribute("aria-pressed") == "true"
        after = decayed(rule, values, t=0.02, steps=7, scaled=True)[-1]
        panel = data_of(PICTURES["spectrum"]())["panels"]["bars"]
        found = [values_of(now[f"after-{i}"], panel)[1][1] for i in range(len(BARS))]
        np.testing.assert_allclose(found, after, atol=5e-4)


@pytest.mark.parametrize(("keys", "start"), [(["Shift+ArrowRight"] * 19, 2.0), ([], 0.1)])
@pytest.mark.parametrize(
    ("name", "method"), [("cubic", "cubic"), ("Muon's quintic", "quintic")]
)
def test_a_start_follows_the_keys_under_either_polynomial(seen, keys, start, name, method):
    handle = part(seen, "iterates").get_by_role("slider")
    for key in keys:
        handle.press(key)
    part(seen, "iterates").get_by_role("button", name=name).click()
    assert_same(
        drawn(seen, "iterates"), lines_of(PICTURES["iterates"](start=start, method=method))
    )
    assert handle.get_attribute("aria-valuetext") == f"x = {start:.2f}"


def said(seen, kind):
    return part(seen, kind).locator(".said").inner_text()


def test_the_loss_stays_when_a_weight_vector_gets_shorter(seen):
    handle = part(seen, "arrows").get_by_role("slider", name="W: left and right")
    before = drawn(seen, "arrows")
    for key in ("PageDown", "PageDown", "Shift+ArrowDown", "ArrowUp"):
        handle.press(key)
    part(seen, "arrows").get_by_role("slider", name="λ", exact=True).fill("0.4")
    now = drawn(seen, "arrows")
    expected = PICTURES["arrows"](length=0.51, decay=0.4)
    assert_same(now, lines_of(expected))
    np.testing.assert_array_equal(now["here"], before["here"])
    assert "the loss is 0.63" in said(seen, "arrows")
    for key in ("ArrowLeft", "Shift+ArrowLeft"):
        handle.press(key)
    moved = PICTURES["arrows"](length=0.51, direction=-21, decay=0.4)
    assert_same(drawn(seen, "arrows"), lines_of(moved))


@pytest.mark.parametrize("name", ["radial", "tangential"])
def test_the_part_of_a_step_is_chosen_by_a_button(seen, name):
    handle = part(seen, "parts").get_by_role("slider", name="W = diag")
    for key in ("ArrowLeft", "Shift+ArrowUp"):
        handle.press(key)
    part(seen, "parts").get_by_role("button", name=name).click()
    expected = PICTURES["parts"](start=(0.84, 0.45), part=name)
    assert_same(drawn(seen, "parts"), lines_of(expected))
    part(seen, "parts").get_by_role("button", name="norm held").click()
    panel = data_of(expected)["panels"]["plane"]
    path = np.stack(values_of(drawn(seen, "parts")["path"], panel), 1)
    held = parted(name, [0.84, 0.45], t=0.03, steps=60, held=True)
    np.testing.assert_allclose(path, held, atol=5e-4)
    assert "norm held: norm times 1.00" in said(seen, "parts")


def test_a_direction_rolls_into_another_well_under_more_pressure(seen):
    handle = part(seen, "wells").get_by_role("slider", name="direction")
    assert handle.get_attribute("aria-valuetext").endswith("at 23°, rank two")
    for key in ("Shift+ArrowLeft", "PageDown", "ArrowLeft"):
        handle.press(key)
    slider = part(seen, "wells").get_by_role("slider", name="λρ²")
    for pressure, end in (("0", "30°, rank two"), ("3.2", "0°, rank one")):
        slider.fill(pressure)
        expected = PICTURES["wells"](start=27, pressure=float(pressure))
        assert_same(drawn(seen, "wells"), lines_of(expected))
        assert handle.get_attribute("aria-valuetext") == f"27°, comes to rest at {end}"


def test_the_square_answers_with_a_corner(seen):
    handle = part(seen, "corners").get_by_role("slider")
    for _ in range(5):
        handle.press("PageDown")
    assert_same(drawn(seen, "corners"), lines_of(PICTURES["corners"](start=(1.7, 0.4))))
    assert said(seen, "corners").endswith("the square with (1.00, 0.00), a corner.")


def test_a_matrix_goes_over_the_cylinder_and_finds_its_rim(seen):
    picture = part(seen, "cylinder")
    handle = picture.get_by_role("slider", name="W: up and down")
    for key in ("PageDown", "Shift+ArrowRight", "ArrowDown"):
        handle.press(key)
    assert_same(
        drawn(seen, "cylinder"), lines_of(PICTURES["cylinder"](second=0.19, degrees=-10))
    )
    assert said(seen, "cylinder").endswith("0.81 and 0.19: rank two. Its slopes: one, I.")
    panels = data_of(PICTURES["cylinder"]())["panels"]

    def at(name, x, y):
        """A place of a panel on the screen."""
        stage = picture.locator(f"[data-panel={name}]")
        stage.scroll_into_view_if_needed()
        frame, (width, height) = stage.bounding_box(), panels[name]["size"]
        (left, top, right, bottom), (x0, x1) = panels[name]["box"], panels[name]["x"]
        y0, y1 = panels[name]["y"]
        across = left + (x - x0) / (x1 - x0) * (width - left - right)
        down = top + (y1 - y) / (y1 - y0) * (height - top - bottom)
        return (
            frame["x"] + across / width * frame["width"],
            frame["y"] + down / height * frame["height"],
        )

    def dragged(name, *places):
        seen.page.mouse.move(*at(name, *places[0]))
        seen.page.mouse.down()
        for place in places[1:]:
            seen.page.mouse.move(*at(name, *place))
        now = drawn(seen, "cylinder")
        seen.page.mouse.up()
        return now

    def shown(second, degrees):
        return lines_of(PICTURES["cylinder"](second=second, degrees=degrees))

    def place(second, degrees):
        u, v = cylinder_seen(turned(*meridian(second), degrees))
        return float(u), float(v)

    rim = dragged("cut", (0.4, 0.75), (0.69, 0.715))  # near it
    assert_same(rim, shown(0.0, -10))
    assert "rank one. Its slopes: any between I and a reflection." in said(seen, "cylinder")
    for second, degrees in ((0.25, 100), (-0.4, 20), (-1.0, -75)):
        assert_same(
            dragged("space", place(0.3, 0), place(second, degrees)), shown(second, degrees)
        )
    assert handle.get_attribute("aria-valuetext") == "λ₂ = −1.00, turned by −75°, rank one"
    handle.press("End")
    assert_same(drawn(seen, "cylinder"), shown(0.5, -75))


def test_beyond_the_root_of_5_it_says_that_it_leaves(seen):
    handle = part(seen, "iterates").get_by_role("slider")
    handle.press("End")
    drawn(seen, "iterates")
    steps = len(iterated("cubic", 2.4, steps=20)) - 1
    said = part(seen, "iterates").locator(".said").inner_text()
    assert said == f"From x₀ = 2.40: it leaves for infinity after {steps} steps."


def test_a_finger_drags_the_point_and_scrolls_beside_it(chromium, page):
    from browser import serve, under_a_finger

    with serve(page) as site, under_a_finger(chromium, f"{site}/page.html") as seen:
        opened, swipe_up = seen
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        handle = opened.locator('[data-kind="plane"] .handle')
        box = handle.bounding_box()
        assert min(box["width"], box["height"]) >= 44
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        start = handle.get_attribute("aria-valuetext")
        scrolled = swipe_up(x, y + 100)  # beside the point: the page's
        assert scrolled > 0
        assert handle.get_attribute("aria-valuetext") == start
        assert swipe_up(x, y - scrolled) == scrolled  # held, it does not scroll the page
        assert float(handle.get_attribute("aria-valuetext")[-4:]) > 0.5  # from 0.41
