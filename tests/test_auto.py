"""The choice of a method, its reason, the referee, and the law about a start: against stand-ins for the methods, whose
answers are prescribed, so that only the choosing is tested here."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from problems import random_network

import fpanalysis as fpa
from fpanalysis.results import Provenance, Status
from fpanalysis.stationary import _auto
from fpanalysis.stationary._result import Basin, Problem, Stationary

NOTHING = np.zeros(0)


def law(problem, method, status=Status.OK, offset=0.0, error=1e-3, **more):
    N = problem.net.N
    st = Stationary(
        mean=problem.start + offset,
        cov=np.eye(N),
        error=np.full(N, error),
        output=np.zeros(N),
        output_error=np.zeros(N),
        status=status,
        method=method,
        scope="local",
        start=problem.start,
        provenance=Provenance(method, problem.net.hash),
    )
    return dataclasses.replace(st, **more)


def stand_in(called, answers, problems, method, rng):
    called.append(method)
    return [answers[method](problem) for problem in problems]


def choose(problems, answers, **settings):
    called = []
    return _auto.solve(problems, partial(stand_in, called, answers), 0, **settings), called


def answer(method, **more):
    return {method: lambda problem: law(problem, method, **more)}


def zero_problem(N, local=False, **network):
    net = fpa.Network(**({"W": np.zeros((N, N)), "activation": "tanh", "sigma": 0.5} | network))
    return Problem(net, NOTHING, 0.5, np.zeros(N), local=local)


PAIR = zero_problem(5, W=np.full((5, 5), 0.4))  # rank one, gain two: two stable fixed points


@pytest.mark.parametrize(("problem", "methods"), [(zero_problem(1), ["chain"]), (zero_problem(2), ["chain"])])
def test_few_neurons_get_the_exact_chain(problem, methods):
    (st,), called = choose([problem], answer("chain"))
    assert called == methods
    assert "exact" in st.reason
    assert st.details["choice"] == "chain"


def test_three_neurons_get_the_chain_only_where_the_closure_is_not_enough():
    (st,), called = choose([zero_problem(3)], answer("closure", offset=1.0, error=1e-5), referee=False)
    assert (st.method, called) == ("closure", ["closure"])
    (st,), called = choose([zero_problem(3)], answer("closure", offset=1.0, error=0.1) | answer("chain"))
    assert (st.method, called) == ("chain", ["closure", "chain"])
    assert "error" in st.reason
    failing = answer("closure", status=Status.NOT_CONVERGED) | answer("chain")
    (st,), _ = choose([zero_problem(3)], failing)
    assert st.method == "chain"
    assert "not converged" in st.reason


def test_larger_networks_get_the_closure_and_a_referee():
    agree = answer("closure") | answer("monte-carlo", offset=1e-3)
    (st,), called = choose([zero_problem(5)], agree)
    assert called == ["closure", "monte-carlo"]
    assert st.status.ok
    assert 0 < st.details["disagreement"] < 1
    (st,), called = choose([zero_problem(5)], agree, referee=False)
    assert called == ["closure"]


def test_disagreement_is_a_status_and_not_an_average():
    (st,), _ = choose([zero_problem(5)], answer("closure") | answer("monte-carlo", offset=0.1))
    assert st.status is Status.DISAGREE
    assert not st.mean.any()
    np.testing.assert_allclose(st.details["referee_mean"], 0.1)
    assert st.details["disagreement"] == pytest.approx(0.1 / np.hypot(1e-3, 1e-3))
    assert "differ by 70.7" in st.reason


def test_agreeing_methods_are_rarely_called_disagreeing():
    """Errors at 95 %: differences of normal variates with the combined standard deviation, 2000 draws of 20 neurons."""
    rng = np.random.default_rng(0)
    first = law(zero_problem(20), "closure")
    called = 0
    for _ in range(2000):
        noise = rng.normal(size=20) * np.hypot(1e-3, 1e-3) / 1.96
        second = dataclasses.replace(law(zero_problem(20), "monte-carlo"), mean=noise)
        called += _auto.judged(first, second).status is Status.DISAGREE
    assert called <= 2 + 4 * np.sqrt(2)  # expected 2


def test_where_the_closure_fails_monte_carlo_stands_in():
    failing = answer("closure", status=Status.LEFT_BASIN) | answer("monte-carlo")
    (st,), _ = choose([zero_problem(5)], failing)
    assert (st.method, st.status) == ("monte-carlo", Status.OK)
    assert "left basin" in st.reason
    (st,), _ = choose([zero_problem(5)], failing, referee=False)
    assert (st.method, st.status) == ("closure", Status.LEFT_BASIN)


def test_where_monte_carlo_fails_too_nothing_stands_in():
    nothing = {"mean": np.full(5, np.nan)}
    failing = answer("closure", status=Status.UNSTABLE, **nothing) | answer(
        "monte-carlo", status=Status.DIVERGED, **nothing
    )
    (st,), _ = choose([zero_problem(5)], failing)
    assert st.status is Status.DIVERGED
    assert "closure gives no law (unstable), nor does Monte Carlo" in st.reason
    assert "stands in" not in st.reason


def test_several_basins_get_their_joint_law_unless_a_start_is_given():
    answers = answer("reduced", scope="global") | answer("closure") | answer("monte-carlo")
    (st,), called = choose([PAIR], answers)
    assert called == ["reduced"]
    assert "2 stable fixed points" in st.reason
    (st,), called = choose([dataclasses.replace(PAIR, local=True)], answers)
    assert called == ["closure", "monte-carlo"]
    (st,), called = choose([PAIR], answers | answer("reduced", status=Status.NOT_REDUCED))
    assert st.method == "closure"
    assert "not reduced" in st.reason
    assert len(st.basins) == 2
    assert all(np.isnan(basin.weight) for basin in st.basins)
    np.testing.assert_array_equal(st.basins[0].mean, -st.basins[1].mean)


def bistable(gap, means=(-1.0, 1.0)):
    """A chain's answer for the tanh pair w = 2: two basins."""

    def solved(problem):
        points = fpa.find_fixed_points(problem.net)
        stable = np.sort(points.h[points.stable], axis=0)
        basins = tuple(
            Basin(0.5, np.array([m]), np.eye(1), h, 0.0, np.array([1e-6])) for m, h in zip(means, stable, strict=True)
        )
        return law(problem, "chain", scope="global", gap=gap, basins=basins)

    return {"chain": solved}


def test_a_start_picks_the_law_of_its_basin():
    net = fpa.Network(W=[[2.0]], activation="tanh", gamma=0.1, sigma=0.5)
    problem = Problem(net, NOTHING, 0.5, np.array([0.9]))
    (st,), _ = choose([problem], bistable(1e-9))
    assert (st.scope, st.mean[0]) == ("global", 0.9)
    (st,), _ = choose([dataclasses.replace(problem, local=True)], bistable(1e-9))
    assert (st.scope, st.mean[0], st.error[0], st.output[0]) == ("local", 1.0, 1e-6, 1.0)
    assert st.start[0] > 0
    assert st.details["global_mean"][0] == 0.9


def test_a_basin_that_does_not_last_has_no_law_of_its_own():
    net = fpa.Network(W=[[2.0]], activation="tanh", gamma=0.1, sigma=0.5)
    problem = Problem(net, NOTHING, 0.5, np.array([0.9]), local=True)
    (st,), _ = choose([problem], bistable(0.05), referee=False)
    assert st.status is Status.LEFT_BASIN
    assert np.isnan(st.mean).all()
    assert len(st.basins) == 2
    (st,), _ = choose([problem], bistable(1e-9, means=(-1.0, np.nan)), referee=False)
    assert st.status is Status.LEFT_BASIN


def test_cells_get_small_noise():
    cell = random_network(4, activation="tanh")
    assert _auto._first_choice(Problem(cell, np.zeros(2), 0.5, np.zeros(4)), 1)[0] == "closure"


def test_the_setting_is_checked():
    with pytest.raises(fpa.InputError, match="referee must be True or False"):
        fpa.stationary(random_network(6), [0.0, 0.0], sigma=0.1, referee="yes")
    with pytest.raises(fpa.InputError, match="chains"):
        fpa.stationary(random_network(6), [0.0, 0.0], sigma=0.1, chains=64)
