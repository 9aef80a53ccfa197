"""Subtraction-free elimination: against closed forms, exact fractions and the invariances of a chain."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import eigh_tridiagonal

from fpanalysis.stationary._gth import Reducible, eliminate, slowest_rate, stationary_vector

U = 2.0**-53


def birth_death(n, seed, deep):
    """Rates between neighbours, and log2 of the stationary vector, from p_i up_i = p_i+1 down_i."""
    rng = np.random.default_rng(seed)
    up, down = np.exp2(rng.integers(-8, 8, (2, n - 1)) - deep * np.array([[0], [1]]))
    return np.diag(up, 1) + np.diag(down, -1), np.concatenate([[0], np.cumsum(np.log2(up) - np.log2(down))])


def in_fractions(A):
    """The stationary vector by exact elimination of p A = p sums(A) over the rationals."""
    n = len(A)
    rates = [[Fraction(float(a)) for a in row] for row in A]
    rows = [[rates[j][i] - (sum(rates[i]) if i == j else 0) for j in range(n)] + [Fraction(0)] for i in range(n)]
    for i in range(n):
        rows[i][i] = rates[i][i] - sum(rates[i])
    rows[0] = [Fraction(1)] * (n + 1)
    for c in range(n):
        pivot = next(r for r in range(c, n) if rows[r][c])
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = [x / rows[c][c] for x in rows[c]]
        for r in range(n):
            if r != c and rows[r][c]:
                rows[r] = [x - rows[r][c] * y for x, y in zip(rows[r], rows[c], strict=True)]
    return [row[-1] for row in rows]


@pytest.mark.parametrize(("n", "deep"), [(2, 0), (40, 4), (150, 5), (300, 2)])
def test_birth_death_chains_to_rounding_at_any_depth(n, deep):
    """Powers of two, so that the closed form is exact; the smallest weights are below 1e-200."""
    A, log2 = birth_death(n, 0, deep)
    expected = np.exp2(log2 - log2.max())
    p = stationary_vector(A)
    assert n != 150 or 1e-300 < p.min() < 1e-200
    np.testing.assert_allclose(p, expected / expected.sum(), rtol=4 * n * U)


@pytest.mark.parametrize("n", [3, 7, 12])
def test_every_entry_is_right_relative_to_itself(n):
    """Entries between 1e-60 and 1, against exact fractions, within the bound of the docstring."""
    rng = np.random.default_rng(n)
    A = 10.0 ** -rng.uniform(0, 60, (n, n))
    np.fill_diagonal(A, 0)
    exact = in_fractions(A)
    errors = [abs(Fraction(float(q)) / e - 1) for q, e in zip(stationary_vector(A), exact, strict=True)]
    assert max(errors) < 2 / 3 * (n + 3) ** 3 * U


def test_relabelling_the_states_relabels_the_vector():
    rng = np.random.default_rng(1)
    A = 10.0 ** -rng.uniform(0, 40, (200, 200))
    order = rng.permutation(200)
    np.testing.assert_allclose(stationary_vector(A[np.ix_(order, order)]), stationary_vector(A)[order], rtol=1e-13)


def test_probabilities_and_rates_have_the_same_vector():
    """Only off-diagonal entries count, and a common factor does not."""
    rng = np.random.default_rng(2)
    P = rng.random((90, 90))
    P /= P.sum(1, keepdims=True)
    rates = 7 * (P - np.eye(90))
    np.testing.assert_allclose(stationary_vector(rates), stationary_vector(P), rtol=1e-13)
    np.testing.assert_allclose(stationary_vector(P) @ P, stationary_vector(P), rtol=1e-13)


def test_states_that_never_come_back_are_named():
    A = np.zeros((4, 4))
    A[0, 1] = A[1, 0] = A[1, 2] = A[2, 3] = A[3, 2] = 1.0
    with pytest.raises(Reducible, match="state 2 never reaches"):
        stationary_vector(A)


def test_time_to_the_first_state_is_that_of_a_walk():
    """A symmetric walk on 0..n-1, reflected at n - 1: k (2 n - 1 - k) steps of rate 1/2 each way to reach 0."""
    n = 130
    A = np.diag(np.full(n - 1, 0.5), 1) + np.diag(np.full(n - 1, 0.5), -1)
    k = np.arange(n)
    np.testing.assert_allclose(eliminate(A).until_first(np.ones(n)), k * (2 * n - 1 - k), rtol=1e-13)


@pytest.mark.parametrize("noise", [0.5, 0.1, 0.05, 0.01])
def test_slowest_rate_of_a_double_well_down_to_1e_40(noise):
    """Against LAPACK on the symmetrised chain where it is large, against the flux over the barrier where small."""
    x = np.linspace(-1.5, 1.5, 41)
    V = ((x**2 - 1) ** 2 - 0.1 * x) / noise
    up, down = np.exp(-np.diff(V) / 2), np.exp(np.diff(V) / 2)
    A = np.diag(up, 1) + np.diag(down, -1)
    p = stationary_vector(A)
    rate = slowest_rate(A, p)
    if noise >= 0.1:
        exact = eigh_tridiagonal(A.sum(1), -np.sqrt(up * down), eigvals_only=True)
        assert rate == pytest.approx(exact[1], rel=2e-8)
    if noise <= 0.1:
        left = x < -0.03  # the barrier's top; 1 / sum 1 / (p_i up_i) between the wells is the flux across it
        between = slice(*np.searchsorted(x, [-1.0, 1.0]))
        flux = 1 / np.sum(1 / (p[:-1] * up)[between])
        expected = flux / (p[left].sum() * p[~left].sum())
        assert rate == pytest.approx(expected, rel=100 * expected + 2e-8)  # exact as the rate goes to zero
    if noise == 0.01:
        assert 1e-41 < rate < 1e-38
