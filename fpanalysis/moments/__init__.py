"""Moments in time: mean and covariance along an input sequence, and the loss curve that follows from them."""

from fpanalysis.moments.loss import LossCurve, loss_curve
from fpanalysis.moments.propagate import Moments, propagate

__all__ = ["LossCurve", "Moments", "loss_curve", "propagate"]
