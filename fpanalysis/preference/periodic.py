"""How a network answers a periodic input, against noise: spectral amplification and signal-to-noise ratio.

With the input u_t = offset + A sin(omega t) on one channel, omega = 2 pi / period, and zbar_t the mean output after
step t, once it repeats itself,

    z_1 = 2 <zbar_t e^{-i omega t}>            gain = |z_1| / A          spectral amplification = gain^2
    S(omega) = sum_tau <Cov(z_t, z_t+tau)> e^{-i omega tau}              SNR = pi |z_1|^2 / S(omega), per step

averaged over a period. Both have a maximum at nonzero noise in a bistable unit that A alone does not take from one well
to the other. For small A and a slow input the two-state theory gives

    SNR = pi (delta / D)^2 r_K

with r_K the rate of hops out of one well per step and 2 delta the difference that A makes to the two wells' depths, in
units in which the noise intensity is D (delta = A x_m for a force A on wells at +- x_m): L. Gammaitoni, P. Haenggi,
P. Jung and F. Marchesoni, "Stochastic resonance", Rev. Mod. Phys. 70, 223 (1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_levels, check_rng, check_vector
from fpanalysis.network import Network
from fpanalysis.preference._periodic_one import exact
from fpanalysis.results import InputError, Provenance, Status

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

METHODS = ("auto", "chain", "monte-carlo")
HANN = 1.5  #: mean square of the window
FAR = 1e8  #: size of a state at which a run has diverged
Z = 1.96  #: standard errors that cover the truth at 95 %


@dataclass(frozen=True, eq=False)
class PeriodicResponse:
    """Of S levels of noise and n_out outputs.

    Attributes
    ----------
    sigma : (S,), noise levels.
    gain, snr : (S, n_out), see the module's docstring; snr is NaN without noise.
    lag : (S, n_out), by how much, in radians, the output's sine is behind the input's.
    noise : (S, n_out), S(omega).
    gain_error, snr_error : (S, n_out), half-widths that cover the truth at 95 %.
    status : one per level.
    """

    sigma: Array
    gain: Array
    lag: Array
    noise: Array
    snr: Array
    gain_error: Array
    snr_error: Array
    status: tuple[Status, ...]
    method: str
    provenance: Provenance

    @property
    def amplification(self) -> Array:
        """Spectral amplification, (S, n_out)."""
        return self.gain**2

    @property
    def ok(self) -> bool:
        return all(status.ok for status in self.status)


def periodic_response(
    net: Network,
    amplitude: float,
    period: int,
    sigma: ArrayLike,
    *,
    offset: ArrayLike | None = None,
    channel: int = 0,
    method: str = "auto",
    trials: int = 256,
    periods: int = 16,
    settle: int = 4,
    rng: int | np.random.Generator = 0,
) -> PeriodicResponse:
    """The answer of `net` to a sine of `amplitude` and `period` (steps) on one input channel, at noise levels `sigma`.

    Parameters
    ----------
    offset : (n_in,), optional
        Constant input besides; zero if left out.
    method : "auto" | "chain" | "monte-carlo"
        The exact periodic law of one neuron, or runs from h = 0. "auto": the chain for one neuron, else runs; without
        noise always runs.
    trials, periods, settle
        Of runs: how many, and of how many periods after the first `settle` ones, which do not count. What is slower
        than those, such as rare hops between unlike wells, is not told by the status of runs: raise `settle`.

    Raises
    ------
    InputError
        If an argument does not fit the network.
    """
    levels, u = _checked(net, amplitude, period, sigma, offset, channel, method)
    for name, value, least in (("trials", trials, 4), ("periods", periods, 4), ("settle", settle, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} must be a whole number >= {least}; found {value!r}")
    if method == "auto":
        method = "chain" if net.N == 1 else "monte-carlo"
    source = check_rng(rng)
    parts = []
    for level in levels:
        noise = level * np.broadcast_to(net.noise_profile, (net.N,))
        if method == "chain" and level > 0:
            parts.append(_of_chain(net, u, noise, amplitude))
        else:
            runs = int(trials) if level > 0 else 4
            parts.append(_of_runs(net, u, noise, amplitude, runs, periods, settle, source))
    gain, lag, density, snr, gain_error, snr_error = (np.array([part[k] for part in parts]) for k in range(6))
    settings = {"amplitude": amplitude, "period": period, "channel": channel}
    if method == "monte-carlo":
        settings |= {"trials": int(trials), "periods": int(periods), "settle": int(settle)}
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    provenance = Provenance(method, net.hash, settings, seed)
    status = tuple(part[-1] for part in parts)
    return PeriodicResponse(levels, gain, lag, density, snr, gain_error, snr_error, status, method, provenance)


def _checked(
    net: Network, amplitude: float, period: int, sigma: ArrayLike, offset: ArrayLike | None, channel: int, method: str
) -> tuple[Array, Array]:
    """Noise levels, and the input over a period (P, n_in)."""
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    if not net.n_in:
        raise InputError("net has no inputs: give it W_in, the weights by which the signal enters")
    if method not in METHODS or (method == "chain" and net.N > 1):
        raise InputError(f"method must be one of {', '.join(METHODS)}, 'chain' for one neuron only; found {method!r}")
    if not isinstance(amplitude, int | float | np.number) or not 0 < float(amplitude) < np.inf:
        raise InputError(f"amplitude must be a number > 0; found {amplitude!r}")
    if isinstance(period, bool) or not isinstance(period, int | np.integer) or period < 3:
        raise InputError(f"period must be a whole number of steps >= 3; found {period!r}")
    if isinstance(channel, bool) or not isinstance(channel, int | np.integer) or not 0 <= channel < net.n_in:
        raise InputError(f"channel must be one of the inputs 0..{net.n_in - 1}; found {channel!r}")
    base = np.zeros(net.n_in) if offset is None else check_vector("offset", offset, net.n_in)
    u = np.repeat(base[None], period, axis=0)
    u[:, channel] += amplitude * np.sin(2 * pi * np.arange(period) / period)
    return check_levels(sigma), u


Level = tuple[Array, Array, Array, Array, Array, Array, Status]  #: gain, lag, noise, snr, both errors; status


def _of_chain(net: Network, u: Array, noise: Array, amplitude: float) -> Level:
    found = exact(net, u, noise)
    turn = np.exp(-2j * pi * np.arange(len(u)) / len(u))
    w = net.readout_weights[:, 0]
    z1 = 2 * np.mean(found.mean * turn) * w
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = pi * np.abs(z1) ** 2 / (w**2 * found.noise)
    gain = np.abs(z1) / amplitude
    return gain, _lag(z1), w**2 * found.noise, snr, found.error * gain, 3 * found.error * snr, found.status


def _of_runs(
    net: Network,
    u: Array,
    noise: Array,
    amplitude: float,
    runs: int,
    periods: int,
    settle: int,
    rng: np.random.Generator,
) -> Level:
    whole, half, grown = _coefficients(net.with_sigma(noise), u, runs, periods, settle, rng)
    L, n_out = periods * len(u), net.n_out
    if grown:
        unknown = np.full(n_out, np.nan)
        return unknown, unknown, unknown, unknown, unknown, unknown, Status.DIVERGED
    z1 = 2 * whole.mean(axis=0)
    S = L * whole.var(axis=0, ddof=1) / HANN
    cut = np.abs(L * (periods // 2) / periods * half.var(axis=0, ddof=1) / HANN - S)  # what a longer window may change
    of_mean = 4 * HANN * S / (L * runs)  #: E |z_1|^2 less that of the mean over all runs
    power = np.maximum(np.abs(z1) ** 2 - of_mean, 0.0)
    noisy = bool(np.any(noise > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(noisy, pi * power / S, np.nan)
        snr_error = snr * (Z * np.sqrt(2 * of_mean / power + 1 / (runs - 1)) + cut / S)
    gain_error = Z * np.sqrt(of_mean / 2) / amplitude
    return np.sqrt(power) / amplitude, _lag(z1), S, snr, gain_error, snr_error, Status.OK


def _coefficients(
    net: Network, u: Array, runs: int, periods: int, settle: int, rng: np.random.Generator
) -> tuple[Complex, Complex, bool]:
    """Mean of w_t z_t e^{-i omega t} over all periods and over the first half of them, (runs, n_out) each, and whether
    a run went out of bounds. The window w_t = 1 - cos(2 pi t / L), of mean 1 and mean square 3/2, keeps what is slower
    than the drive out of its frequency."""
    h, P, first = np.zeros((runs, net.N)), len(u), periods // 2
    turn = np.exp(-2j * pi * np.arange(P) / P)
    whole, half = np.zeros((2, runs, net.n_out), complex)
    drive = net.drive(u)
    far = FAR * (1 + float(np.abs(drive).max()) + float(np.max(net.sigma)))
    for k in range(-settle, periods):
        for t in range(P):
            h = net.step(h, u[t], rng.standard_normal(h.shape))
            if k < 0:
                continue
            z = turn[t] * net.output(h)
            whole += _window(k * P + t, periods * P) * z
            if k < first:
                half += _window(k * P + t, first * P) * z
        if not np.abs(h).max() < far:
            return whole, half, True
    return whole, half, False


def _window(t: int, L: int) -> float:
    return (1 - cos(2 * pi * t / L)) / L


def _lag(z1: Complex) -> Array:
    """Of z_1 behind that of the input, -i A: in (-pi, pi]."""
    return np.asarray(-np.angle(1j * z1), np.float64)
