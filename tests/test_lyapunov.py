"""The doubling Lyapunov solver against scipy's, and its refusal of unstable J."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from fpanalysis.stationary._lyapunov import Lyapunov, Unstable, stationary_covariance


def system(radius, N=12, seed=0):
    rng = np.random.default_rng(seed)
    J = rng.standard_normal((N, N))
    A = rng.standard_normal((N, N))
    return radius * J / np.abs(np.linalg.eigvals(J)).max(), A @ A.T


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.9, 0.999])
def test_agrees_with_scipy(radius):
    J, R = system(radius)
    C = stationary_covariance(J, R)
    # condition of the equation: about 1 / (1 - radius^2), and non-normality
    np.testing.assert_allclose(C, solve_discrete_lyapunov(J, R), rtol=1e-9, atol=1e-9 * np.abs(C).max())
    # rounding of N-term sums; the powers of J carry it over the relaxation time
    size = (np.abs(J) @ np.abs(C) @ np.abs(J).T + np.abs(R)).max()
    np.testing.assert_allclose(J @ C @ J.T + R, C, rtol=0, atol=12 * 2.2e-16 * size / (1 - radius))
    assert np.array_equal(C, C.T)


@pytest.mark.parametrize("radius", [1.0, 1.001, 3.0])
def test_unstable_dynamics_has_no_covariance(radius):
    with pytest.raises(Unstable):
        stationary_covariance(*system(radius))


def test_single_precision_is_a_good_preconditioner():
    J, R = system(0.98)
    exact = stationary_covariance(J, R)
    rough = Lyapunov(J, np.float32).solve(R, 1e-4)
    assert np.abs(rough - exact).max() < 1e-3 * np.abs(exact).max()


def test_scale_does_not_matter_even_in_single_precision():
    J, R = system(0.9)
    solver = Lyapunov(J, np.float32)
    np.testing.assert_allclose(solver.solve(1e-60 * R), 1e-60 * solver.solve(R), rtol=1e-6)
    assert not solver.solve(0 * R).any()
