"""The page docs/regularisation.md: what training noise did to classifiers of digits, claim by claim.

python docs/regularisation.py train NETWORKS        train all networks into the folder NETWORKS (half an hour)
python docs/regularisation.py measure NETWORKS      measure those that regularisation.json does not have yet
python docs/regularisation.py                       write the page again, after a change of the words below
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

HERE = Path(__file__).parent
SEEDS = 6
SMOOTHED = 0.5  #: what ReLU is smoothed by where its second derivatives are asked for
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
    Measure("relative_trace", "relative trace", -1),
    Measure("top_eigenvalue", "top eigenvalue", -1),
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
    flat = fpa.models.flatness(net, seen, sigma=0)
    smoothed = None if net.smooth else SMOOTHED
    expansion = fpa.regularizer(net, seen, task.loss, 1.0, multiplicative=0.0, smoothed=smoothed, pairs=0)
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
        "relative_trace": flat.relative_trace,
        "top_eigenvalue": float(flat.eigenvalues[0]),
        "regulariser": float(expansion.P + expansion.Q),
        "loss": flat.loss,
    }


def read(home: Path = HERE) -> dict[str, dict[str, float]]:
    path = home / "regularisation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        train(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["measure"]:
        measure(Path(sys.argv[2]))
