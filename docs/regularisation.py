"""The page docs/regularisation.md: what training noise did to classifiers of digits, claim by claim.

python docs/regularisation.py train NETWORKS        train all networks into the folder NETWORKS (half an hour)
python docs/regularisation.py measure NETWORKS      measure those that regularisation.json does not have yet
python docs/regularisation.py                       write the page again, after a change of the words below
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

HERE = Path(__file__).parent
SEEDS = 6
NARROW = 0.06  #: what ReLU is smoothed by where second derivatives in the weights are asked for
SMOOTHED = 0.5  #: and where those in the state are, which P and Q of the training noise are made of
LEVELS = {"white": (0.0, 0.3), "multiplicative": (0.4,), "salt-and-pepper": (0.1,)}


@dataclass(frozen=True)
class Group:
    """Networks that differ in their seed; `clean` names those trained without noise, on the same trials."""

    name: str
    told: str
    training: dict[str, Any]
    clean: str = ""


RELU, TANH = {"activation": "relu"}, {"activation": "tanh"}
LIPSCHITZ = {"form": "lipschitz", "gamma": 0.1, "steps": 3400}
GROUPS = (
    Group("relu-clean", "CTRNN ReLU, clean", RELU | {"sigma": 0.0}),
    Group("relu-in", "CTRNN ReLU, noise in .5", RELU | {"sigma": 0.5}, "relu-clean"),
    Group("relu-out", "CTRNN ReLU, noise out .5", RELU | {"sigma": 0.5, "placement": "out"}, "relu-clean"),
    Group("tanh-clean", "CTRNN tanh, clean", TANH | {"sigma": 0.0}),
    Group("tanh-in", "CTRNN tanh, noise in .5", TANH | {"sigma": 0.5}, "tanh-clean"),
    Group("tanh-out", "CTRNN tanh, noise out .5", TANH | {"sigma": 0.5, "placement": "out"}, "tanh-clean"),
    Group("lipschitz-clean", "Lipschitz, clean", LIPSCHITZ | {"sigma": 0.0}),
    Group("lipschitz-add.03", "Lipschitz, add .03, mult .05", LIPSCHITZ | {"sigma": 0.3, "multiplicative": 0.05},
          "lipschitz-clean"),
    Group("lipschitz-add.1", "Lipschitz, add .1, mult .05", LIPSCHITZ | {"sigma": 1.0, "multiplicative": 0.05},
          "lipschitz-clean"),
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """A number of a network, and what the noise is claimed to do to it: 1 raise, -1 lower it, 0 nothing claimed."""

    name: str
    told: str
    claimed: int
    relative: bool = True  #: compared as a ratio


MEASURES = (
    Measure("accuracy", "accuracy", 1, False),
    Measure("accuracy_noisy", "at own noise", 0, False),
    Measure("white", "white .3", 1, False),
    Measure("multiplicative", "multiplicative .4", 1, False),
    Measure("salt", "salt and pepper .1", 1, False),
    Measure("exponent", "top exponent", -1, False),
    Measure("jacobian", "input Jacobian", -1),
    Measure("margin", "margin", 1),
    Measure("trace", "Hessian trace", -1),
    Measure("top_eigenvalue", "top eigenvalue", -1),
    Measure("relative_trace", "relative trace", -1),
    Measure("shaken", "loss by 10 % on weights", -1),
    Measure("regulariser", "P + Q", -1),
)


def train(folder: Path) -> None:
    import fpanalysis as fpa

    folder.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        start = time.process_time()
        training = fpa.models.train("digits", seed=range(SEEDS), **group.training)
        for seed in range(SEEDS):
            fpa.save(training.network(seed), folder / f"{group.name}-seed{seed}.pt")
        print(f"{group.name}: {time.process_time() - start:.0f} s of CPU time", flush=True)


def measure(folder: Path, home: Path = HERE) -> None:
    results = read(home)
    for group in GROUPS:
        for seed in range(SEEDS):
            name = f"{group.name}-seed{seed}"
            if name in results:
                continue
            start = time.process_time()
            results[name] = measured(folder / f"{name}.pt")
            results[name]["cpu_seconds"] = round(time.process_time() - start, 1)
            text = json.dumps(results, indent=1, sort_keys=True) + "\n"
            (home / "regularisation.json").write_text(text, encoding="utf-8")
            print(f"measured: {name}, {results[name]['cpu_seconds']:.0f} s", flush=True)


def measured(path: Path) -> dict[str, float]:
    """All numbers of one network. Without noise, but for `accuracy_noisy` and the regulariser."""
    import fpanalysis as fpa

    net, task = fpa.load(path), fpa.tasks.get_task("digits")
    test, seen = task.test_batch(10_000, 0), task.batch(256, 0)
    robust = fpa.robustness(net, test, LEVELS, loss=task.loss, proven=False)
    white = robust.perturbed["white"].accuracy
    noisy = fpa.perturbed(net, test, "white", [0.0], sigma=None, loss=task.loss)
    grown = fpa.trial_exponents(net, test[0], sigma=0)
    narrow, smoothed = (None, None) if net.smooth else (NARROW, SMOOTHED)
    flat = fpa.models.flatness(net, seen, smoothed=narrow)
    relative = fpa.models.flatness(net, seen, smoothed=narrow, scale="weight")
    shaken = fpa.models.noise_stability(net, seen, [0.1], scale="weight", pairs=32)
    kinds = [net] if net.form == "lipschitz" else [dataclasses.replace(net, placement=kind) for kind in ("in", "out")]
    sums = [_regulariser(kind, seen, task.loss, smoothed) for kind in kinds]
    return {
        "accuracy": float(white[0]),
        "accuracy_noisy": float(noisy.accuracy[0]),
        "white": float(white[1]),
        "multiplicative": float(robust.perturbed["multiplicative"].accuracy[-1]),
        "salt": float(robust.perturbed["salt-and-pepper"].accuracy[-1]),
        "exponent": grown.top,
        "jacobian": float(robust.margins.frobenius.mean()),
        "margin": float(robust.margins.found.mean()),
        "margin_local": float(np.maximum(robust.margins.local, 0).mean()),
        "trace": flat.trace,
        "trace_error": flat.trace_error,
        "relative_trace": relative.trace,
        "shaken": float(shaken.excess[0]),
        "top_eigenvalue": float(flat.eigenvalues[0]),
        "regulariser": sums[0],
        "regulariser_out": sums[-1],
        "loss": flat.loss,
    }


def _regulariser(net: Any, batch: Any, loss: str, smoothed: float | None) -> float:
    import fpanalysis as fpa

    found = fpa.regularizer(net, batch, loss, 1.0, multiplicative=0.0, smoothed=smoothed, pairs=0)
    return float(found.P + found.Q)


def page(results: dict[str, dict[str, float]]) -> str:
    return ""


def read(home: Path = HERE) -> dict[str, dict[str, float]]:
    path = home / "regularisation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def compared(results: dict[str, dict[str, float]], group: Group, measure: Measure) -> tuple[float, float] | None:
    """Mean over seeds of the difference from the network trained without noise from the same start, or of the log of
    the ratio, and its 95 % half-width."""
    from scipy.stats import t

    name = "regulariser_out" if measure.name == "regulariser" and group.training.get("placement") else measure.name
    noisy, clean = (of(results, key, name) for key in (group.name, group.clean))
    if not len(noisy) or len(noisy) != len(clean) or (measure.relative and min(noisy.min(), clean.min()) <= 0):
        return None
    d = np.log(noisy / clean) if measure.relative else noisy - clean
    return float(d.mean()), float(t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))


def of(results: dict[str, dict[str, float]], group: str, name: str) -> np.ndarray:
    keys = [f"{group}-seed{seed}" for seed in range(SEEDS)]
    return np.array([results[key][name] for key in keys if key in results])


def spread(values: np.ndarray) -> str:
    """Mean and its 95 % half-width over seeds."""
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    digits = max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 3
    return f"{values.mean():.{min(digits, 4)}f} ± {half:.{min(digits, 4)}f}"


def table(results: dict[str, dict[str, float]], measures: Sequence[Measure]) -> str:
    rows = [["network", *(measure.told for measure in measures)], ["---"] * (1 + len(measures))]
    for group in GROUPS:
        own = "regulariser_out" if group.training.get("placement") else "regulariser"
        names = [own if measure.name == "regulariser" else measure.name for measure in measures]
        rows.append([group.told, *(spread(of(results, group.name, name)) for name in names)])
    return _rows(rows)


def changes(results: dict[str, dict[str, float]]) -> str:
    noisy = [group for group in GROUPS if group.clean]
    rows = [["measure", "claimed", *(group.told for group in noisy)], ["---"] * (2 + len(noisy))]
    for measure in MEASURES:
        if measure.claimed:
            cells = [change(compared(results, group, measure), measure) for group in noisy]
            rows.append([measure.told, "up" if measure.claimed > 0 else "down", *cells])
    return _rows(rows)


def change(found: tuple[float, float] | None, measure: Measure) -> str:
    """Such as "x 0.71 (0.65 to 0.77), yes": whether zero change lies outside of the interval, on the claimed side."""
    if found is None:
        return "-"
    mean, half = found
    verdict = "open" if abs(mean) <= half else "**yes**" if mean * measure.claimed > 0 else "**opposite**"
    if measure.relative:
        told = f"x {np.exp(mean):.2f} ({np.exp(mean - half):.2f} to {np.exp(mean + half):.2f})"
    else:
        told = f"{mean:+.3f} ± {half:.3f}"
    return f"{told}: {verdict}"


def _rows(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(results: dict[str, dict[str, float]], path: Path) -> None:
    """Every network a dot: each measure by group."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    shown = [measure for measure in MEASURES if measure.name not in ("accuracy_noisy", "top_eigenvalue")]
    fig, axes = plt.subplots(3, 4, figsize=(13, 8.5), layout="constrained", sharey=True)
    colours = {"": "#4d4d4d"} | {group.clean: "#d1603d" for group in GROUPS if group.clean}
    rows = list(reversed(GROUPS))
    for ax, measure in zip(axes.flat, shown, strict=True):
        for y, group in enumerate(rows):
            own = measure.name == "regulariser" and group.training.get("placement")
            values = of(results, group.name, "regulariser_out" if own else measure.name)
            ax.plot(values, np.full(len(values), y), "o", ms=4, alpha=0.6, color=colours[group.clean])
            ax.plot(values.mean(), y, "|", ms=16, color=colours[group.clean])
        way = {1: ", claimed up", -1: ", claimed down", 0: ""}[measure.claimed]
        ax.set_title(f"{measure.told}{way}", fontsize=10)
        if measure.relative:
            ax.set_xscale("log")
        ax.set_yticks(range(len(rows)), [group.told for group in rows], fontsize=8)
        for y in (2.5, 5.5):
            ax.axhline(y, color="0.85", lw=0.8, zorder=0)
    fig.suptitle(
        "Classifiers of digits trained without (grey) and with noise (orange), tested without noise; bars: means"
    )
    path.parent.mkdir(exist_ok=True)
    fig.savefig(path, dpi=80)
    plt.close(fig)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["train"]:
        train(Path(arguments[1]))
    elif arguments[:1] == ["measure"]:
        measure(Path(arguments[1]))
    results = read()
    draw(results, HERE / "figures" / "regularisation.png")
    (HERE / "regularisation.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
