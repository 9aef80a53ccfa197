"""What the regulariser is made of, and how far it carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.regularizer._recursion import Driven, Path
from fpanalysis.regularizer._runs import mean_and_half
from fpanalysis.results import Provenance, Status

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regularizer:
    """E l(eps) = l + eps^2 / 2 (P + Q) + O(eps^4).

    Attributes
    ----------
    l, P, Q : loss without noise, P and Q, per unit of eps^2: sums over the trials of their parts.
    l_by_trial, P_by_trial, Q_by_trial : (B,), those parts.
    P_direct : of P, what the noise inside f bends where it enters, the asymmetric attenuation of the noise itself; the
        rest is bent on its way through the network. Zero unless the placement is "in".
    P_by_neuron, Q_by_neuron : (N,), which sum to P and Q: at which neuron's nonlinearity the shift of the mean arises,
        and whose noise the variance is. In the current form the bend of f shows in the currents it feeds.
    eps : size of the noise asked for, its largest coefficient.
    predicted : l + eps^2 / 2 (P + Q).
    sampled, sampled_error : the loss at `eps` from pairs of runs with opposite noise, and its half-width (95 %); NaN
        without runs, and l and 0 at eps = 0.
    error : what `predicted` may be off by (95 %): its gap to `sampled` and that one's half-width; NaN without runs.
    mu, C : (B, N) and (B, N, N), shift of the mean and covariance of the state after the last step, per eps^2.
    residual : gap between the sums over neurons, which run backward in time, and P and Q, which run forward: rounding.
    """

    l: float
    P: float
    Q: float
    l_by_trial: Array
    P_by_trial: Array
    Q_by_trial: Array
    P_direct: float
    P_by_neuron: Array
    Q_by_neuron: Array
    eps: float
    sampled: float
    sampled_error: float
    error: float
    mu: Array
    C: Array
    residual: float
    status: Status
    provenance: Provenance

    @property
    def predicted(self) -> float:
        return float(self.predict(self.eps))

    def predict(self, eps: ArrayLike, absorbed: float = 0.0) -> Array:
        """l + eps^2 / 2 (P + Q) at noise of the sizes `eps`.

        Where f is smoothed by noise "in" of the size `absorbed`, l holds already what that noise does where it enters,
        to all orders: P_direct is then of the rest alone,

            l + eps^2 / 2 (P - P_direct + Q) + (eps^2 - absorbed^2) / 2 P_direct

        which carries much further about eps = absorbed than the expansion about no noise.
        """
        squared = np.asarray(eps, float) ** 2
        return np.asarray(self.l + squared / 2 * (self.P + self.Q) - absorbed**2 / 2 * self.P_direct)

    @classmethod
    def of(
        cls,
        problem: Driven,
        path: Path,
        shares: tuple[Array, Array, Array],
        eps: float,
        runs: Array | None,
        status: Status,
        provenance: Provenance,
    ) -> Regularizer:
        lost = path.diverged | path.unstable
        l, P, Q = (np.where(lost, np.nan, part) for part in (path.l, path.P, path.Q))
        P_i, direct, Q_i = (np.where(lost[:, None], np.nan, part) for part in shares)
        nothing = (float(l.sum()), 0.0) if eps == 0 else (float("nan"), float("nan"))
        sampled, half = nothing if runs is None else mean_and_half(runs)
        predicted = float(l.sum() + eps**2 / 2 * (P.sum() + Q.sum()))
        return cls(
            l=float(l.sum()),
            P=float(P.sum()),
            Q=float(Q.sum()),
            l_by_trial=l,
            P_by_trial=P,
            Q_by_trial=Q,
            P_direct=float(direct.sum()),
            P_by_neuron=P_i.sum(axis=0),
            Q_by_neuron=Q_i.sum(axis=0),
            eps=eps,
            sampled=sampled,
            sampled_error=half,
            error=abs(predicted - sampled) + half,
            mu=np.where(lost[:, None], np.nan, path.mu),
            C=np.where(lost[:, None, None], np.nan, path.C),
            residual=float(max(abs(P_i.sum() - P.sum()), abs(Q_i.sum() - Q.sum()))),
            status=status,
            provenance=provenance,
        )

    @classmethod
    def unknown(cls, problem: Driven, eps: float, status: Status, provenance: Provenance) -> Regularizer:
        """Nothing but a status."""
        B, N = problem.start.shape
        trials, neurons = np.full(B, np.nan), np.full(N, np.nan)
        none = float("nan")
        return cls(
            *(none, none, none, trials, trials, trials, none, neurons, neurons, eps, none, none, none),
            *(np.full((B, N), np.nan), np.full((B, N, N), np.nan), none, status, provenance),
        )
