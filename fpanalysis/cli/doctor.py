"""fpanalysis doctor: the environment, and a quick check that the numbers are right."""

from __future__ import annotations

import click

from fpanalysis.cli._report import check_outputs, write_json

PACKAGES = ("numpy", "scipy", "sympy", "torch", "matplotlib", "click", "rich", "xarray", "arviz-stats")


@click.command(short_help="The environment, and a quick check of the numbers.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write it as JSON; - for stdout and nothing else.")
def command(json_path: str | None) -> None:
    """Report versions and threads, and check one known answer: paste this into a bug report.

    \b
    Example:
      $ fpanalysis doctor
      fpanalysis             0.1.0
      python                 3.11.7
      ...
      check                  closure against the linear closed form: error 1.7e-18
    """
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import fpanalysis

    check_outputs(json_path)
    facts = {"fpanalysis": fpanalysis.__version__, "python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "missing: install fpanalysis again"
    facts["cpus"] = str(os.cpu_count())
    facts["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "unset")
    passed, facts["check"] = _check()
    if json_path is not None:
        write_json(json_path, {"schema": "fpanalysis.doctor/1", **facts})
    if json_path != "-":
        for name, value in facts.items():
            click.echo(f"{name:<22} {value}")
    if not passed:
        raise click.exceptions.Exit(3)


def _check() -> tuple[bool, str]:
    """A ReLU neuron that never clips is linear: mean and variance have closed forms."""

    from fpanalysis.network import Network
    from fpanalysis.stationary import stationary

    w, b, gamma, sigma = 0.5, 40.0, 0.1, 0.3
    net = Network(W=[[w]], b=[b], gamma=gamma, sigma=sigma, activation="relu")
    st = stationary(net, method="closure")
    J = 1 - gamma + gamma * w
    error = max(abs(st.mean[0] - b / (1 - w)), abs(st.cov[0, 0] - gamma**2 * sigma**2 / (1 - J**2)))
    return error < 1e-12, f"closure against the linear closed form: error {error:.1e}"
