"""The pictures of README and docs, drawn again: `python docs/figures/make.py [NAME ...]`; all without a name."""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import fpanalysis as fpa
from fpanalysis.tasks import get_task

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


def walk(net, task, batch, rng=None):
    """Positions (T + 1, B, 2) of a network in the maze; with the noise removed if there is no rng."""
    p = task.feedback.start(batch[0].astype(float))
    h, path = np.zeros((len(p), net.N)), [p]
    for _ in range(task.T):
        u, z = task.feedback.gain * (p - task.feedback.centre), net.output(h)
        h = net.step(h, u, None if rng is None else rng.standard_normal(h.shape))
        p = p + task.feedback.rate * z
        path.append(p)
    return np.stack(path)


def maze():
    net = fpa.load(NETWORKS / "maze-relu-in-0.5.pt")
    task = get_task("maze", **net.info["task_settings"])
    batch = task.batch(24, rng=0)
    paths = {
        f"training noise {net.sigma:g}": walk(net, task, batch, np.random.default_rng(1)),
        "noise removed": walk(net, task, batch),
        "de-noised": walk(fpa.denoise(net), task, batch),
    }
    panels = {title: (path, task.score(path[1:], batch)) for title, path in paths.items()}
    reference = task.reference(paths["noise removed"][0, :1])[:, 0]
    fpa.figures.maze_figure(panels, reference=reference, **task.layout()).savefig(HERE / "maze.png", dpi=80)


def cognitive():
    """One trial of each of the twenty tasks; the shares are of the trials of a batch of 1000."""
    net = fpa.load(NETWORKS / "cognitive-relu-in-0.5.pt")
    task = get_task("cognitive", **net.info["task_settings"])
    rng = np.random.default_rng(1)
    inputs, targets, mask = task.batch(1000, rng)
    h, outputs = np.zeros((1000, net.N)), np.empty(targets.shape)
    for t, u in enumerate(inputs):
        h = net.step(h, u, rng.standard_normal(h.shape))
        outputs[t] = net.output(h)
    accuracy = task.accuracy(outputs, (inputs, targets, mask))
    rule, end = task.rule_of(inputs), mask.any(-1).cumsum(0).argmax(0) + 1
    go = (targets[..., 0] > 0.5).argmin(0)
    whole = (targets[..., 4:-3] > 0.8).any((0, 2))  # a response that the picture does not cut at 0 = 360 degrees
    shown = [int(np.flatnonzero((rule == k) & whole)[0]) for k in range(len(task.titles))]
    shares = zip(task.titles, accuracy.values(), strict=True)
    titles = [title.replace(": ", f" ({share:.0%})\n") for title, share in shares]
    parts = ([part[: end[b], b] for b in shown] for part in (inputs, targets, outputs))
    figure = fpa.figures.trials_figure(titles, *parts, [go[b] for b in shown])
    figure.savefig(HERE / "cognitive.png", dpi=75)


DIGITS = {"clean": "digits-relu-in-0.0", "noise in 0.5": "digits-relu-in-0.5", "Lipschitz": "digits-tanh-lipschitz-0.3"}


def robustness():
    """All 450 test images: minutes."""
    batch = get_task("digits").test_batch(450, 0)
    models = {
        label: fpa.robustness(fpa.load(NETWORKS / f"{name}.pt"), batch, loss="cross-entropy")
        for label, name in DIGITS.items()
    }
    fpa.figures.robustness_figure(models).savefig(HERE / "robustness.png", dpi=75)


def flatness():
    batch = get_task("digits").batch(256, 0)
    curves = [
        (label, fpa.models.noise_stability(fpa.load(NETWORKS / f"{name}.pt"), batch)) for label, name in DIGITS.items()
    ]
    fpa.figures.flatness_figure(curves).savefig(HERE / "flatness.png", dpi=75)


def resonance():
    unit = fpa.Network(W=[[2.0]], W_in=[[1.0]], gamma=0.4, activation="tanh", placement="out")
    response = fpa.periodic_response(unit, 0.2, 100, np.linspace(0.4, 1.5, 23))
    fpa.figures.periodic_figure(response).savefig(HERE / "resonance.png", dpi=90)


PICTURES = {
    f.__name__: f
    for f in (
        *(shift, fixed_points, bifurcations, density_one, density_two, preference, bias, incentive, phases),
        *(maze, cognitive, robustness, flatness, resonance),
    )
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
        print(f"drawn: {HERE / name}.png")
