"""The example scripts run, and the example networks are what their names say."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import fpanalysis as fpa

EXAMPLES = Path(__file__).parents[1] / "examples"
NETWORKS = sorted((EXAMPLES / "networks").glob("*-*.pt"))  # task-activation-placement-sigma


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("quickstart.py", "output shift"),
        ("fixed_points.py", "31 = 2^5 - 1 points, proven"),
        ("training_noise.py", "28 of 64 neurons carry 90 % of the bias"),
    ],
)
def test_script_runs(script, says, capsys):
    runpy.run_path(str(EXAMPLES / script))
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_network_is_what_its_name_says(path):
    net = fpa.load(path)
    task, activation, placement, sigma = path.stem.rsplit("-", 3)
    assert (net.info["task"], net.activation.name, net.placement) == (task, activation, placement)
    assert net.sigma == float(sigma)
    assert path.stat().st_size < 50_000


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
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


def test_there_are_six():
    assert len(NETWORKS) == 6
    assert np.sum([path.stat().st_size for path in NETWORKS]) < 1_000_000
