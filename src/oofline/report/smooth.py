"""A smooth curve through noisy points, with how sure its mean is."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

NARROWEST = 0.6
"""Shortest length scale of a curve through one point, as a share of the width."""


def smooth(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (g,) and standard deviation (g,) of a Gaussian process through (n,) points.

    Rasmussen and Williams 2006, algorithm 2.1. Noise, height and length scale are fitted by the
    marginal likelihood, which takes noise for shape where points are few: so the length scale is
    at least `NARROWEST` n^(-1/5) of the width of ``x`` (the rate at which the bandwidth of a
    smoother may shrink, Stone 1982: 0.30 at 30 points, 0.24 at 100), and at most twice the width.
    """
    low, width = x.min(), np.ptp(x)
    spread = float(y.std()) or 1.0
    shortest = NARROWEST * len(x) ** -0.2
    shape = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(0.5, (shortest, 2.0), nu=2.5)
    kernel = shape + WhiteKernel(0.1, (1e-4, 2.0))
    process = GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(((x - low) / width)[:, None], (y - y.mean()) / spread)
    mean, deviation = process.predict(((grid - low) / width)[:, None], return_std=True)
    noise = process.kernel_.k2.noise_level
    sure = np.sqrt(np.maximum(deviation**2 - noise, 0.0))
    return mean * spread + y.mean(), sure * spread
