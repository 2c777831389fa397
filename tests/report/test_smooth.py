"""A band that holds the truth, and does not follow single points."""

import numpy as np
import pytest

from oofline.report.smooth import smooth


def test_the_smooth_band_holds_the_curve_behind_noisy_points():
    rng = np.random.default_rng(1)
    x = rng.uniform(-11, -7, 40)
    y = 0.9 - 0.02 * (x + 9) ** 2 + 0.005 * rng.normal(size=40)
    grid = np.linspace(-10.8, -7.2, 50)
    mean, deviation = smooth(x, y, grid)
    truth = 0.9 - 0.02 * (grid + 9) ** 2
    assert np.abs(mean - truth).max() < 0.01
    assert deviation.max() < 0.005  # of the mean, not of one trial
    assert (np.abs(mean - truth) < 1.96 * deviation + 1e-3).mean() > 0.8


@pytest.mark.parametrize("seed", [0, 1, 2, 6])
def test_it_follows_no_single_points_where_a_search_put_most_of_its_trials(seed):
    """Two thirds of the trials near the best value, as a sampler that learns leaves them."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.uniform(-11, -7, 8), rng.normal(-9, 0.3, 16)])
    y = 0.82 - 0.004 * (x + 9) ** 2 + 0.003 * rng.normal(size=24)
    grid = np.linspace(-10.5, -7.5, 200)
    mean, _ = smooth(x, y, grid)
    assert (np.diff(np.sign(np.diff(mean))) != 0).sum() <= 2
    assert (y - np.interp(x, grid, mean))[8:].std() > 0.0015  # noise stays noise
