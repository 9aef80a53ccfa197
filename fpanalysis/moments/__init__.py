"""Moments in time and through layers: mean and covariance along an input sequence or a feedforward network, and the
loss curve that follows from them."""

from fpanalysis.moments._curve import LossCurve
from fpanalysis.moments.layers import Layer, Layers, layers
from fpanalysis.moments.loss import loss_curve
from fpanalysis.moments.propagate import Moments, propagate
from fpanalysis.moments.trials import held

__all__ = ["Layer", "Layers", "LossCurve", "Moments", "held", "layers", "loss_curve", "propagate"]
