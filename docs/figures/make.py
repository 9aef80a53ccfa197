"""The pictures of README and docs, drawn again: `python docs/figures/make.py [NAME ...]`; all without a name."""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import fpanalysis as fpa

HERE = Path(__file__).parent
NETWORKS = HERE.parents[1] / "examples/networks"
#: one neuron that excites itself: two wells, between which noise of this size moves the state
WELLS = fpa.Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh", sigma=1.0)
#: two neurons that inhibit each other, of which one wins
WINNERS = fpa.Network(W=[[1.2, -0.9], [-0.9, 1.2]], b=[0.05, 0.0], gamma=0.2, activation="tanh", sigma=1.2)


def shift():
    net = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt")
    fpa.figures.shift_figure(fpa.shift(net, sigma=np.linspace(0, 0.5, 11))).savefig(HERE / "shift.png", dpi=160)


def fixed_points():
    fps = fpa.find_fixed_points(fpa.load(NETWORKS / "flip_flop_tanh.pt"))
    fpa.figures.fixed_points_figure([fps], [fps.trajectories()]).savefig(HERE / "fixed_points.png", dpi=120)


def bifurcations():
    branches = fpa.continue_fixed_points(fpa.load(NETWORKS / "flip_flop_tanh.pt"), "scale", 0.2, 1.2)
    figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    fpa.figures.plot_bifurcations(branches, ax)
    figure.savefig(HERE / "bifurcations.png", dpi=90)


def density_one():
    laws = [fpa.stationary(WELLS, method=method) for method in ("chain", "fokker-planck", "monte-carlo")]
    ax = fpa.figures.plot_density(laws, points=fpa.find_fixed_points(WELLS))
    ax.figure.savefig(HERE / "density_one.png", dpi=110)


def density_two():
    law = fpa.stationary(WINNERS, method="chain")
    fpa.figures.density_figure(law, fpa.find_fixed_points(WINNERS)).savefig(HERE / "density_two.png", dpi=75)


def preference():
    net = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt")
    batch = fpa.moments.held(net, steps=120, counted=80)
    curve = fpa.loss_curve(net, batch)
    fpa.figures.loss_figure(curve, fpa.loss_curve(net, batch, curve.sigma, "monte-carlo")).savefig(
        HERE / "preference.png", dpi=110
    )


def bias():
    pair = [fpa.load(NETWORKS / f"function-approximation-relu-{placement}-0.5.pt") for placement in ("in", "out")]
    figure = fpa.figures.attenuation_figure(*map(fpa.network_bias, pair))
    figure.savefig(HERE / "bias.png", dpi=80)


def incentive():
    pair = [fpa.regulator.loss_landscape(0.2, 0.5, placement=placement) for placement in ("in", "out")]
    fpa.figures.incentive_figure(*pair).savefig(HERE / "incentive.png", dpi=90)


def phases():
    diagrams = [fpa.regulator.phase_diagram(after=after) for after in ("training", "optimum")]
    fpa.figures.phase_figure(diagrams).savefig(HERE / "phases.png", dpi=90)


PICTURES = {
    f.__name__: f
    for f in (shift, fixed_points, bifurcations, density_one, density_two, preference, bias, incentive, phases)
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
        print(f"drawn: {HERE / name}.png")
