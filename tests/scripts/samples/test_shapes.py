from __future__ import annotations

from math import inf

import numpy as np

from scripts.samples.shapes import burr, ellipsoid, half_space, smooth_union, tube, tubes, waves


def points(*places: tuple[float, float, float]) -> np.ndarray:
    return np.array(places, np.float32).T


def test_an_ellipsoid_has_its_surface_at_its_radii() -> None:
    shape = ellipsoid((1, 2, 3), (10, 20, inf))
    distance = shape.distance(points((1, 2, 3), (11, 2, 50), (1, 22, 3), (13, 2, 3), (1, 20, -99)))
    np.testing.assert_allclose(distance[[1, 2]], 0, atol=1e-4)
    assert distance[0] <= 0
    assert 1 < distance[3] < 3
    assert -3 < distance[4] < -1


def test_an_ellipsoid_turns_about_its_centre() -> None:
    shape = ellipsoid((5, 0, 0), (20, 2, 2), turn=(0, 0, 90))
    assert (shape.distance(points((5, 19, 0), (5, 0, 0))) <= 0).all()
    assert shape.distance(points((20, 0, 0))) > 0


def test_a_tube_passes_through_its_knots_with_their_radii() -> None:
    shape = tube((0, 0, 0, 4), (20, 10, 0, 3), (40, 0, 0, 2))
    np.testing.assert_allclose(shape.distance(points((0, 0, 0), (20, 10, 0), (40, 0, 0))), (-4, -3, -2), atol=0.25)
    np.testing.assert_allclose(shape.distance(points((0, 0, 4), (20, 10, 3), (40, 0, -2))), 0, atol=0.25)
    assert shape.distance(points((500, 0, 0))) > 0


def test_several_tubes_are_their_union() -> None:
    paths = [[(0, 0, 0, 4), (20, 0, 0, 4)], [(0, 30, 0, 2), (20, 30, 0, 2)]]
    here = points((10, 0, 0), (10, 3, 0), (10, 15, 0), (10, 29, 0), (10, 33, 0))
    inside = tubes(*paths).distance(here) < 0
    assert inside.tolist() == [True, True, False, True, False]
    assert inside.tolist() == ((tube(*paths[0]) | tube(*paths[1])).distance(here) < 0).tolist()


def test_a_burr_has_its_spikes_where_they_point() -> None:
    shape = burr((5, 0, 0), 10, [(0, 6, 0), (0, 0, -3)])
    here = points((5, 0, 0), (14, 0, 0), (16, 0, 0), (5, 15, 0), (5, 17, 0), (5, -11, 0), (5, 0, -12), (5, 0, -14))
    assert (shape.distance(here) < 0).tolist() == [True, True, False, True, False, False, True, False]


def test_a_shape_near_a_point_is_empty_elsewhere() -> None:
    pair = ellipsoid((0, 0, 0), (5, 5, 5)) | ellipsoid((30, 0, 0), (5, 5, 5))
    here = points((0, 0, 3), (0, 0, 7), (30, 0, 3))
    near = pair.near((0, 0, 0), 10).distance(here)
    np.testing.assert_array_equal(near[:2], pair.distance(here)[:2])
    assert near[2] > 0


def test_shapes_combine_as_sets() -> None:
    ball, left = ellipsoid((0, 0, 0), (5, 5, 5)), half_space((0, 0, 0), (1, 0, 0))
    here = points((-3, 0, 0), (3, 0, 0), (-9, 0, 0), (9, 0, 0))
    inside = {"or": ball | left, "and": ball & left, "minus": ball - left, "grown": ball.grown(5)}
    assert {name: (shape.distance(here) < 0).tolist() for name, shape in inside.items()} == {
        "or": [True, True, True, False],
        "and": [True, False, False, False],
        "minus": [False, True, False, False],
        "grown": [True, True, True, True],
    }


def test_a_smooth_union_fills_the_crease_only() -> None:
    balls = [ellipsoid((x, 0, 0), (10, 10, 10)) for x in (-9, 9)]
    sharp, smooth = balls[0] | balls[1], smooth_union(balls, blend=6)
    crease, far = points((0, 5, 0)), points((-18, 0, 0))
    assert sharp.distance(crease) > 0 > smooth.distance(crease)
    np.testing.assert_allclose(smooth.distance(far), sharp.distance(far), atol=1e-4)


def test_wrinkles_move_the_surface_by_their_depth() -> None:
    ball = ellipsoid((0, 0, 0), (10, 10, 10))
    wrinkled = ball.wrinkled(lambda here: np.ones((1, here.shape[1]), np.float32), depth=2)
    here = points((3, 4, 5))
    np.testing.assert_allclose(wrinkled.distance(here) - ball.distance(here), 2, atol=1e-5)


def test_waves_are_smooth_and_of_unit_size() -> None:
    here = np.random.default_rng(0).uniform(-500, 500, (3, 20000)).astype(np.float32)
    value = waves(np.random.default_rng(1), wavelength=20, channels=3)
    assert value(here).shape == (3, 20000)
    np.testing.assert_allclose(value(here).std(axis=1), 1, atol=0.1)
    assert np.abs(value(here + np.float32(0.2)) - value(here)).max() < 0.5
