"""Matrices as points of space: distances are Frobenius norms, surfaces are closed, arrows end
where they point."""

import numpy as np
import pytest
import torch

from lrdlib.figures import space as s

RNG = np.random.default_rng(0)


def test_distances_are_frobenius_norms():
    for a, b in RNG.normal(size=(20, 2, 3)):
        apart = float((s.matrix(s.place(*a)) - s.matrix(s.place(*b))).norm())
        assert np.linalg.norm(s.place(*a) - s.place(*b)) == pytest.approx(apart)


@pytest.mark.parametrize("degrees", [0, 30, 75])
def test_eigenvalues_and_the_direction_of_the_first(degrees):
    W = s.matrix(s.of_eigen(2.0, -0.5, degrees))
    angle = torch.tensor(degrees * np.pi / 180)
    v = torch.stack([angle.cos(), angle.sin()]).double()
    assert torch.allclose(W @ v, 2 * v)
    assert torch.allclose(torch.linalg.eigvalsh(W), torch.tensor([-0.5, 2.0]).double())


def test_a_turned_profile_is_closed_and_keeps_its_radii():
    profile = [(0, 1), (1, 1), (1, -1), (0, -1)]
    points, triangles = s.turned(profile, around=6)
    assert len(points) == 24
    radii = np.hypot(*np.array(points)[:, :2].T).reshape(4, 6)
    assert np.allclose(radii, np.array([r for r, _ in profile])[:, None])
    # every edge that is not on an end ring is shared by two triangles
    edges = [
        frozenset(e) for t in triangles for e in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))
    ]
    inside = [e for e in edges if any(6 <= p < 18 for p in e)]
    assert all(inside.count(e) == 2 for e in inside)


def test_arrows_go_from_their_start_to_their_ends():
    start, ends = np.array([0.0, 0.0, 0.2]), [np.array([1.0, 0, 0]), np.array([0, 0, 2.0])]
    shafts, heads = s.arrows(start, ends, "#378eca", head=0.1)
    assert shafts.x.count(None) == 2 and (shafts.x[0], shafts.z[0]) == (0, 0.2)
    assert [heads.x[i] for i in (8, 17)] == [1, 0] and [heads.z[i] for i in (8, 17)] == [
        0,
        2,
    ]
    for end, tips in zip(
        ends, np.array([heads.x, heads.y, heads.z]).T.reshape(2, 9, 3), strict=True
    ):
        assert np.allclose(
            np.linalg.norm(tips[:8] - end, axis=1), 0.1 * np.hypot(1, 0.36), atol=1e-3
        )


def test_a_path_is_broken_where_there_is_no_point():
    line = s.path([(0, 0, 0), (np.nan,) * 3, (1, 1, 1)], "#378eca", name="a")
    assert line.x == (0, None, 1) and line.name == "a" and line.showlegend is False


def test_what_stands_in_a_scene():
    fig = s.space(1.5)
    fig.add_traces([s.words([((0, 0, 1), "I")]), s.cross(1.0)])
    assert fig.data[0].z == (1,) and fig.data[0].text == ("I",)
    assert max(v for v in fig.data[1].x if v is not None) == 1
    assert tuple(fig.layout.scene.zaxis.range) == (-1.5, 1.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: s.space(0), "reach must be .*got 0"),
        (
            lambda: s.arrows(np.zeros(3), [np.ones(3)], "#000000", head=-1),
            "head must .*got -1",
        ),
        (lambda: s.turned([(0, 1)], around=2), "around must .*got 2"),
    ],
)
def test_bad_input_is_one_clear_error(call, words):
    with pytest.raises(ValueError, match=words):
        call()
