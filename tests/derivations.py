"""Derivations made once for all test files, and the exact chain that they are tested against."""

from functools import cache

import numpy as np
from chains import exact_law

import fpanalysis as fpa
from fpanalysis.regulator import derive

derived = cache(derive)


def chain(w, b, gamma, sigma, activation="relu", placement="in"):
    """Mean and variance of the exact chain, known to better than 1e-9."""
    net = fpa.Network(W=[[w]], b=[b], gamma=gamma, sigma=sigma, activation=activation, placement=placement)
    mean, cov, uncertain, _ = exact_law(net)
    assert uncertain < 1e-9
    return mean[0], cov[0, 0]


def falls(errors, order, tolerance=0.35):
    """Errors at successively halved parameters fall as its power `order`."""
    errors = np.abs(errors)
    return np.all(np.abs(np.log2(errors[:-1] / errors[1:]) - order) < tolerance)
