"""Pictures of results: each plot draws what a result holds, on the axes given or new ones, and computes nothing."""

from fpanalysis.figures._axes import PANELS
from fpanalysis.figures.attenuation import attenuation_figure, plot_attenuation, plot_transmission
from fpanalysis.figures.bifurcations import SPECIAL_POINTS, plot_bifurcations
from fpanalysis.figures.densities import densities_figure, density_figure, plot_density, plot_density_2d
from fpanalysis.figures.flatness import flatness_figure, plot_hessian_spectrum, plot_noise_stability
from fpanalysis.figures.incentive import (
    incentive_figure,
    phase_figure,
    plot_incentive,
    plot_phase_diagram,
    plot_valley,
)
from fpanalysis.figures.learning import learning_curves_figure, plot_learning_curves
from fpanalysis.figures.loss_curves import loss_figure, plot_loss_curve, plot_signal_gain
from fpanalysis.figures.maze import maze_figure, plot_maze
from fpanalysis.figures.periodic import periodic_figure, plot_periodic_response
from fpanalysis.figures.points import POINT_STYLES, fixed_points_figure, plot_fixed_points
from fpanalysis.figures.regularizer import plot_regularizer, plot_regularizer_neurons, regularizer_figure
from fpanalysis.figures.regulator import plot_regulator, regulator_figure
from fpanalysis.figures.robustness import plot_jacobian_norms, plot_margins, plot_perturbed, robustness_figure
from fpanalysis.figures.shifts import plot_outputs, plot_shift, shift_figure
from fpanalysis.figures.stability import plot_spectrum, plot_top_exponent, plot_trial_exponents, stability_figure
from fpanalysis.figures.sweeps import plot_sweep, sweep_figure
from fpanalysis.figures.trials import plot_trial, trials_figure

__all__ = [
    "PANELS",
    "POINT_STYLES",
    "SPECIAL_POINTS",
    "attenuation_figure",
    "densities_figure",
    "density_figure",
    "fixed_points_figure",
    "flatness_figure",
    "incentive_figure",
    "learning_curves_figure",
    "loss_figure",
    "maze_figure",
    "periodic_figure",
    "phase_figure",
    "plot_attenuation",
    "plot_bifurcations",
    "plot_density",
    "plot_density_2d",
    "plot_fixed_points",
    "plot_hessian_spectrum",
    "plot_incentive",
    "plot_jacobian_norms",
    "plot_learning_curves",
    "plot_loss_curve",
    "plot_margins",
    "plot_maze",
    "plot_noise_stability",
    "plot_outputs",
    "plot_periodic_response",
    "plot_perturbed",
    "plot_phase_diagram",
    "plot_regularizer",
    "plot_regularizer_neurons",
    "plot_regulator",
    "plot_shift",
    "plot_signal_gain",
    "plot_spectrum",
    "plot_sweep",
    "plot_top_exponent",
    "plot_transmission",
    "plot_trial",
    "plot_trial_exponents",
    "plot_valley",
    "regularizer_figure",
    "regulator_figure",
    "robustness_figure",
    "shift_figure",
    "stability_figure",
    "sweep_figure",
    "trials_figure",
]
