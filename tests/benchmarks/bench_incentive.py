"""Where noise is preferred, predicted and trained: one neuron that must hold a target.

OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_incentive.py [--figure FILE]

Every point trains `fpanalysis.models.train("regulator")` as it is (400 steps of Adam, target 0.2), but for the length
of a trial, 8 / gamma steps; R = loss without noise / loss at the training noise is measured over 2000 trials and
compared with `fpanalysis.regulator.trained` from the same initial weight. A last table trains on, towards the best
weight.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time

import numpy as np

import fpanalysis as fpa
from fpanalysis import figures
from fpanalysis.models import evaluate, train
from fpanalysis.tasks import get_task

RATIOS = (0.1, 0.2, 0.4, 0.7, 1.2)
GAMMAS = (0.03, 0.1, 0.3)
TARGET = 0.2


def initial_weight(task, seed: int) -> float:
    stream = np.random.SeedSequence(seed).spawn(3)[0]
    return float(task.initialize(1, np.random.default_rng(stream))["W"][0, 0])


def trained_points(gamma: float, ratios, placement: str, seeds, **settings):
    """Rows (ratio, gamma, w0, w, R measured, its error (95 %), w predicted, R predicted)."""
    T = round(8 / gamma)
    task = get_task("regulator", c=TARGET, T=T, counted=T // 2)
    sigma = [TARGET / ratio for ratio in ratios]
    run = train(task, sigma=sigma, placement=placement, seed=list(seeds), gamma=gamma, **settings)
    adam = {name: settings[name] for name in ("steps", "lr") if name in settings}
    for k, net in enumerate(run.networks):
        e = evaluate(net, task, [0.0, sigma[k]], inputs=1, trials=2000)
        noisy, R = e.loss[0, 1], e.loss[0, 0] / e.loss[0, 1]
        w0 = initial_weight(task, seeds[k])
        found = fpa.regulator.trained(TARGET, sigma[k], gamma, placement=placement, w=w0, **adam)
        yield ratios[k], gamma, w0, net.W[0, 0], R, R * e.error[0, 1] / noisy, float(found.w), float(found.ratio)


def table(rows) -> None:
    print("c/sigma  gamma    w0      w trained  predicted     R trained   +-       predicted  off by")
    for ratio, gamma, w0, w, R, error, w_predicted, predicted in rows:
        print(
            f"{ratio:6.2f}  {gamma:6.2f}  {w0:6.2f}  {w:9.2f}  {w_predicted:9.2f}  {R:12.4g} {error:8.2g} "
            f"{predicted:10.4g}  {100 * (predicted / R - 1):+6.1f} %"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure", help="draw the phase diagram with the trained neurons on it")
    figure = parser.parse_args().figure
    seeds, inside = [0, 1, 2, 3, 4], []
    for placement in ("in", "out"):
        begin, rows = time.process_time(), []
        for gamma in GAMMAS:
            rows += trained_points(gamma, RATIOS, placement, seeds)
        print(f"\nnoise {placement}: {len(rows)} neurons, {time.process_time() - begin:.0f} s CPU")
        table(rows)
        agree = np.mean([(row[4] > 1) == (row[7] > 1) for row in rows])
        print(f"predicted on the right side of R = 1: {agree:.0%}")
        if placement == "in":
            inside = rows
    print("\nnoise in, trained on: 4000 steps at learning rate 0.05")
    table(trained_points(0.1, RATIOS[1:4], "in", seeds[1:4], steps=4000, lr=0.05))
    best = fpa.regulator.optimum(TARGET, TARGET / np.array(RATIOS[1:4]), 0.1)
    print("best weights", np.round(best.w, 2), "R there", np.round(best.ratio, 3))
    if figure:
        points = np.array(inside)[:, [0, 1, 4]]
        figures.phase_figure(
            [fpa.regulator.phase_diagram(after="training"), fpa.regulator.phase_diagram(after="optimum")],
            [points, None],
        ).savefig(figure, dpi=150)


if __name__ == "__main__":
    main()
