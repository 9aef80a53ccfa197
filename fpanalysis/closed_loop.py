"""A network in a closed loop with its environment, as one network without inputs: every analysis applies to it.

The network moves a point p by its output and sees where it is (a task's `Feedback`). With z_t = W_out r_t + b_out,
where r = h in the rate form and f(h) in the current form,

    u_t = gain (p_t - centre)      h_{t+1} = step(h_t, u_t)      p_{t+1} = p_t + rate z_t

The joint state (h, p) is that of N + n_out neurons, the last of which are linear and have no noise: with g their
gamma and F the target of the step, p' = (1 - g) p + g F_p for F_p = p + (rate / g) z, so that

    W = [[W, W_in gain], [(rate / g) W_out, I]]      b = [b - W_in gain centre, (rate / g) b_out]
    sigma = [sigma, 0]                                W_out = [0, I],  b_out = 0

in both forms and for both noise placements. Nothing is approximated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis._grouped import Grouped
from fpanalysis.checks import number_or_vector, of_shape, real_array
from fpanalysis.network import LOOP_NOTE, Network
from fpanalysis.results import InputError

Array = NDArray[np.float64]


def closed_loop(
    net: Network, rate: ArrayLike, gain: ArrayLike = 1.0, centre: ArrayLike = 0.0, targets: ArrayLike | None = None
) -> Network:
    """`net` and the point that it moves, as one `Network` of N + n_out neurons without inputs, whose output is p.

    Parameters
    ----------
    rate : number, (n_out,) or (n_out, n_out)
        How far outputs of one move p in a step.
    gain : number, (n_in,) or (n_in, n_out)
        What p - centre is multiplied by to give the input; numbers need n_in = n_out.
    centre : number or (n_out,)
        Where the input is zero.
    targets : (1, n_out), optional
        Where p is wanted to rest.

    Returns
    -------
    Network
        Neurons 0..N-1 are those of `net`, the last n_out are p; a trial starts at the state [h_0, p_0]. gamma of p is
        that of `net`, or the mean of gammas that differ: a matter of notation. Noise given as one number, here and in
        every analysis, is that of the neurons of `net`; p has none. Conditions of `net` are left behind.
        ``info["closed_loop"]`` keeps the number of coordinates, rate, gain, centre, and the hash of `net`.

    Raises
    ------
    InputError
        If `net` has no inputs or is a closed loop already, or a shape does not fit.
    """
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    if net.moved or not net.n_in:
        why = "is a closed loop already" if net.moved else "has no inputs to see the point by"
        raise InputError(f"net {why}: close the loop of a network that sees and moves")
    N, n = net.N, net.n_out
    K, R = _matrix("gain", gain, net.n_in, n), _matrix("rate", rate, n, n)
    c = np.broadcast_to(number_or_vector("centre", centre, n), (n,))
    g = float(np.mean(net.gamma))
    seen = np.asarray(net.W_in) @ K
    b_out = np.zeros(n) if net.b_out is None else net.b_out
    note = {"moved": n, "rate": R.tolist(), "gain": K.tolist(), "centre": c.tolist(), "network": net.hash}
    return Network(
        W=np.block([[net.W, seen], [R @ net.readout_weights / g, np.eye(n)]]),
        b=np.concatenate([net.b - seen @ c, R @ b_out / g]),
        W_out=np.hstack([np.zeros((n, N)), np.eye(n)]),
        gamma=g if np.ndim(net.gamma) == 0 else np.append(net.gamma, np.full(n, g)),
        activation=Grouped([net.activation, "linear"], np.repeat([0, 1], [N, n])),
        placement=net.placement,
        form=net.form,
        sigma=np.append(np.broadcast_to(net.sigma, (N,)), np.zeros(n)),
        conditions=None if targets is None else np.zeros((1, 0)),
        targets=targets,
        info={**net.info, LOOP_NOTE: note},
    )


def _matrix(name: str, value: ArrayLike, rows: int, columns: int) -> Array:
    """`value` as (rows, columns): a number or a vector stands for a diagonal."""
    value = real_array(name, value)
    if value.ndim == 2:
        return of_shape(name, value, (rows, columns))
    if rows != columns:
        raise InputError(
            f"{name} must be a matrix ({rows}, {columns}), since the network has {rows} inputs and {columns} outputs; "
            f"found shape {value.shape}"
        )
    return np.diag(np.full(rows, value) if value.ndim == 0 else of_shape(name, value, (rows,)))
