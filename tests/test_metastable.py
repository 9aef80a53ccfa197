"""Laws with rare hops, taken over from a null vector that float64 cannot trust, against 50-digit arithmetic."""

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.stationary import Problem
from fpanalysis.stationary._metastable import metastable

NET = fpa.Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh")
BOX = np.array([[-1.0], [1.0]])
#: sigma, mean, weight of the smaller basin, gap: null vectors in 50 digits
DIGITS = [
    (1.0, 0.607979100760, 0.0933554, 1.54317e-3),
    (0.8, 0.832899583649941, 0.01518648, 5.98783e-5),
    (0.6, 0.916569640166, 4.94530e-4, 6.20003e-9),
    (0.5, 0.934435187083166, 2.04303e-5, 2.72136e-13),
]


def problem(sigma):
    return Problem(NET, np.zeros(0), sigma, np.zeros(1))


@pytest.mark.parametrize(("sigma", "mean", "weight", "gap"), DIGITS)
def test_digits(sigma, mean, weight, gap):
    st = metastable(problem(sigma), BOX, 1e-12)
    assert st.status.ok
    assert st.details["null_vector"] == "subtraction-free"
    assert abs(st.mean[0] - mean) <= st.error[0] < 2e-4
    assert abs(st.basins[0].weight - weight) <= st.basins[0].weight_error < 1e-3 * weight + 1e-12
    assert abs(st.gap - gap) < 1e-4 * gap
    both = sum(b.weight * (b.cov[0, 0] + (b.mean[0] - st.mean[0]) ** 2) for b in st.basins)
    assert abs(both - st.cov[0, 0]) < 1e-4 * st.cov[0, 0]


@pytest.mark.parametrize(
    "net",
    [
        NET,
        fpa.Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh", placement="out"),
        fpa.Network(W=[[2.0]], b=[0.05], gamma=0.2, activation="tanh", form="current"),
    ],
)
def test_the_density_has_the_moments_of_the_law(net):
    sigma = 0.8 if net.placement == "in" and net.form == "rate" else 1.2
    st = metastable(
        Problem(net, np.zeros(0), sigma, np.zeros(1)), np.array([[-6.0], [6.0]]) if sigma > 1 else BOX, 1e-12
    )
    assert st.status.ok
    density = st.density
    assert density.mass == pytest.approx(1, abs=1e-9)
    assert (density.values >= 0).all()
    p, h = density.values * density.weights[0], density.grids[0]
    sd = np.sqrt(st.cov[0, 0])
    assert abs(p @ h - st.mean[0]) < 0.01 * sd
    assert p @ (h - p @ h) ** 2 == pytest.approx(st.cov[0, 0], rel=0.01)
    below = sum(p[h < np.median([b.fixed_point[0] for b in st.basins])])
    assert min(below, 1 - below) == pytest.approx(min(b.weight for b in st.basins), rel=0.1)


def test_what_does_not_converge_is_refused_basin_by_basin():
    """A box that cuts one basin off."""
    st = metastable(problem(0.6), np.array([[0.3], [1.0]]), 1e-12)
    assert st.status is fpa.Status.METASTABLE
    assert "without subtraction" in st.reason
    assert np.isnan(st.mean).all()
