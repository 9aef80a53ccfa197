"""Asymmetric attenuation: the bias noise puts on a neuron near its nonlinearity, and its exact share of the output.

`curves` has bias and transmitted variance of one neuron, `operating` a network's neurons on these curves,
`attribution` what each of them puts on the output.
"""

from fpanalysis.bias.attribution import Attribution, NetworkBias, attribute_bias, network_bias
from fpanalysis.bias.curves import Attenuation, attenuation, attenuation_bias, attenuation_curve, noise_gain
from fpanalysis.bias.operating import OperatingPoints, operating_points

__all__ = [
    "Attenuation",
    "Attribution",
    "NetworkBias",
    "OperatingPoints",
    "attenuation",
    "attenuation_bias",
    "attenuation_curve",
    "attribute_bias",
    "network_bias",
    "noise_gain",
    "operating_points",
]
