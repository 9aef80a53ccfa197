"""fpanalysis: fixed points and stationary distributions of noisy recurrent networks.

    import fpanalysis as fpa

    net = fpa.load("model.pt")
    fps = fpa.find_fixed_points(net)
    st = fpa.stationary(net, method="closure")
    sh = fpa.shift(net, sigma=(0, 0.25, 0.5))

The public names are imported on first use, so that ``import fpanalysis`` is quick.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_EXPORTS = {
    "Network": "fpanalysis.network",
    "LipschitzRNN": "fpanalysis.lipschitz",
    "Noise": "fpanalysis.noise",
    "feedforward": "fpanalysis.feedforward",
    "closed_loop": "fpanalysis.closed_loop",
    "Activation": "fpanalysis.activations",
    "InputError": "fpanalysis.results",
    "Provenance": "fpanalysis.results",
    "Status": "fpanalysis.results",
    "load": "fpanalysis.checkpoint",
    "save": "fpanalysis.checkpoint",
    "FixedPoints": "fpanalysis.fixed_points",
    "find_fixed_points": "fpanalysis.fixed_points",
    "LimitCycle": "fpanalysis.fixed_points",
    "LimitCycles": "fpanalysis.fixed_points",
    "find_limit_cycles": "fpanalysis.fixed_points",
    "SlowPoints": "fpanalysis.fixed_points",
    "find_slow_points": "fpanalysis.fixed_points",
    "Branch": "fpanalysis.fixed_points.continuation.branches",
    "Branches": "fpanalysis.fixed_points.continuation.branches",
    "SpecialPoint": "fpanalysis.fixed_points.continuation.branches",
    "continue_fixed_points": "fpanalysis.fixed_points.continuation",
    "Stationary": "fpanalysis.stationary",
    "stationary": "fpanalysis.stationary",
    "Shift": "fpanalysis.shift",
    "shift": "fpanalysis.shift",
    "Attenuation": "fpanalysis.bias",
    "attenuation": "fpanalysis.bias",
    "attenuation_bias": "fpanalysis.bias",
    "OperatingPoints": "fpanalysis.bias",
    "operating_points": "fpanalysis.bias",
    "Attribution": "fpanalysis.bias",
    "attribute_bias": "fpanalysis.bias",
    "NetworkBias": "fpanalysis.bias",
    "network_bias": "fpanalysis.bias",
    "LossCurve": "fpanalysis.moments",
    "loss_curve": "fpanalysis.moments",
    "Lyapunov": "fpanalysis.stability",
    "lyapunov": "fpanalysis.stability",
    "TrialExponents": "fpanalysis.stability",
    "trial_exponents": "fpanalysis.stability",
    "Contraction": "fpanalysis.stability",
    "contraction_certificates": "fpanalysis.stability",
    "ExponentBounds": "fpanalysis.stability",
    "exponent_bounds": "fpanalysis.stability",
    "sde_exponent_bounds": "fpanalysis.stability",
    "DenoiseWarning": "fpanalysis.denoise",
    "denoise": "fpanalysis.denoise",
    "PeriodicResponse": "fpanalysis.preference",
    "periodic_response": "fpanalysis.preference",
    "Preference": "fpanalysis.preference",
    "preference": "fpanalysis.preference",
    "Verdict": "fpanalysis.preference",
    "Regularizer": "fpanalysis.regularizer",
    "Margins": "fpanalysis.robustness",
    "margins": "fpanalysis.robustness",
    "Perturbed": "fpanalysis.robustness",
    "perturbed": "fpanalysis.robustness",
    "Robustness": "fpanalysis.robustness",
    "robustness": "fpanalysis.robustness",
    "regularizer": "fpanalysis.regularizer",
}
_MODULES = ("bias", "figures", "fixed_points", "gaussian", "models", "moments", "regulator", "stability", "tasks")

__all__ = ["__version__", *sorted(_EXPORTS), *_MODULES]


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        value = getattr(import_module(_EXPORTS[name]), name)
    elif name in _MODULES:
        value = import_module(f"fpanalysis.{name}")
    else:
        raise AttributeError(f"module 'fpanalysis' has no attribute {name!r}")
    globals()[name] = value
    return value


class _Package(ModuleType):
    """``fpanalysis.stationary``, ``shift``, ``denoise``, ``preference``, ``regularizer`` and ``robustness`` are
    functions, whichever import comes first: the modules of the same names, which Python would bind here, stay reachable
    by ``from ... import``."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _EXPORTS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return __all__
