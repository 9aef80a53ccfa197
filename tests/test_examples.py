"""The example scripts run, and the example networks are what their names say."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.models import evaluate
from fpanalysis.tasks import remembered

EXAMPLES = Path(__file__).parents[1] / "examples"
NETWORKS = sorted((EXAMPLES / "networks").glob("*-*.pt"))  # family-activation-placement-sigma
SETTLED = [path for path in NETWORKS if path.stem.startswith(("function", "regulator"))]
FURTHER = {"feedforward": 5, "maze": 4, "path-integration": 4, "cognitive": 1.03}  #: bias^2 grows by, at least
TASKS = {"feedforward": "function-approximation"}  #: of a family whose task has another name


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("quickstart.py", "output shift"),
        ("fixed_points.py", "31 = 2^5 - 1 points, proven"),
        ("training_noise.py", "28 of 64 neurons carry 90 % of the bias"),
        ("stochastic_resonance.py", "bistable unit: stochastic resonance; preferred noise"),
    ],
)
def test_script_runs(script, says, capsys):
    runpy.run_path(str(EXAMPLES / script))
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_network_is_what_its_name_says(path):
    net = fpa.load(path)
    family, activation, placement, sigma = path.stem.rsplit("-", 3)
    where = net.form if net.form == "lipschitz" else net.placement
    assert (net.info["task"], net.activation.name, where) == (TASKS.get(family, family), activation, placement)
    assert net.sigma == float(sigma)
    assert path.stat().st_size < 350_000


@pytest.mark.parametrize("path", SETTLED, ids=lambda path: path.stem)
def test_noise_in_is_needed_and_noise_out_is_not(path):
    """The distance of the mean output from the target, at the training noise and with the noise removed."""
    net = fpa.load(path)
    silent, noisy = fpa.shift(net, sigma=(0, net.sigma), methods=("closure",)).levels
    assert silent.ok
    assert noisy.ok
    if net.placement == "in":
        assert noisy.output_error < silent.output_error / 2
    else:
        assert noisy.output_error > silent.output_error


@pytest.mark.parametrize(("family", "times"), FURTHER.items())
def test_bias_is_least_with_the_training_noise_on_every_task(family, times):
    """bias^2 with the noise removed over that at the training noise, beyond both errors."""
    net = fpa.load(next(path for path in NETWORKS if path.stem.startswith(family)))
    found = evaluate(net, remembered(net.info), [0, net.sigma], inputs=24, trials=32).curves[0]
    margin = times * (found.bias2[1] + found.bias2_error[1])
    assert found.bias2[0] > margin


def test_every_family_has_a_network():
    families = {path.stem.rsplit("-", 3)[0] for path in NETWORKS}
    assert families == {
        "function-approximation",
        "regulator",
        *["feedforward", "maze", "path-integration", "cognitive", "digits"],
    }
    assert np.sum([path.stat().st_size for path in NETWORKS]) < 1_200_000
