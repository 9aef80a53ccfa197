"""Options of the command line: lists of numbers and noise ranges."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from fpanalysis.cli._options import NoiseRange, Numbers


@click.command()
@click.option("--input", "values", type=Numbers())
@click.option("--noise", type=NoiseRange())
def show(values, noise):
    click.echo(repr(values if noise is None else noise))


def run(*arguments):
    return CliRunner().invoke(show, arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", (1.0,)), ("0.1,-2", (0.1, -2.0)), (" 1 , 2e3 ", (1.0, 2000.0)), ("-0", (0.0,))],
)
def test_numbers(text, expected):
    result = run(f"--input={text}")
    assert result.exit_code == 0
    assert eval(result.output) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a comma-separated list"),
        ("1,,2", "not a comma-separated list"),
        ("1;2", "not a comma-separated list"),
        ("one", "not a comma-separated list"),
        ("1,nan", "not finite"),
        ("inf", "not finite"),
        ("1e999", "not finite"),
        ("0:1", "not a comma-separated list"),
    ],
)
def test_wrong_numbers_are_wrong_usage(text, reason):
    result = run(f"--input={text}")
    assert result.exit_code == 2
    assert reason in result.output
    assert repr(text) in result.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", (0.5,)),
        ("0,0.1,0.5", (0.0, 0.1, 0.5)),
        ("0.5,0.1", (0.5, 0.1)),
        ("0:0.5:2", (0.0, 0.5)),
        ("0:1:5", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("0.1:0.3:3", (0.1, 0.2, 0.3)),
    ],
)
def test_noise_levels(text, expected):
    result = run(f"--noise={text}")
    assert result.exit_code == 0
    assert eval(result.output) == pytest.approx(expected, rel=1e-15)


def test_a_range_has_eleven_levels_and_ends_exactly_where_it_says():
    levels = eval(run("--noise", "0:0.7").output)
    assert len(levels) == 11
    assert (levels[0], levels[-1]) == (0.0, 0.7)
    assert levels == tuple(sorted(levels))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-0.1", "negative noise level"),
        ("0,-1", "negative noise level"),
        ("-1:1", "negative noise level"),
        ("1:0", "reversed"),
        ("1:1", "single level"),
        ("0:1:1", "single level"),
        ("0:1:0", "single level"),
        ("0:1:-3", "single level"),
        ("0:1:2.5", "not a whole number"),
        ("0:1:", "not a whole number"),
        ("0:1:x", "not a whole number"),
        ("0:1:1000000000", "above"),
        ("0:1:2:3", "not start:stop"),
        (":", "not start:stop"),
        ("0:", "not start:stop"),
        (":1", "not start:stop"),
        ("0,1:2", "not start:stop"),
        ("0:1,2", "not start:stop"),
        ("a:b", "not start:stop"),
        ("0:inf", "not finite"),
        ("nan:1", "not finite"),
        ("nan", "not finite"),
        ("", "not a comma-separated list"),
    ],
)
def test_wrong_noise_ranges_are_wrong_usage(text, reason):
    result = run(f"--noise={text}")
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert reason in result.output
    assert repr(text) in result.output


def test_defaults_may_be_given_as_numbers():
    assert Numbers().convert((1, 2), None, None) == (1, 2)
    assert NoiseRange().convert((0.0, 0.5), None, None) == (0.0, 0.5)
    with pytest.raises(click.BadParameter, match="negative"):
        NoiseRange().convert((-1.0,), None, None)
