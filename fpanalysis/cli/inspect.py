"""fpanalysis inspect: what is in a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._inputs import names
from fpanalysis.cli._options import WIDE
from fpanalysis.cli._report import check_outputs, write_json

if TYPE_CHECKING:
    from fpanalysis.checkpoint import Trained

INCREMENT = "f = A h + a(W h + W_in u + b)"
EQUATIONS = {
    ("rate", "in"): "h' = (1 - gamma) h + gamma f(W h + W_in u + b + sigma xi)",
    ("rate", "out"): "h' = (1 - gamma) h + gamma (f(W h + W_in u + b) + sigma xi)",
    ("lipschitz", "independent"): f"h' = h + gamma ((1 + multiplicative xi_2) f + sigma xi_1), {INCREMENT}",
    ("lipschitz", "joint"): f"h' = h + gamma (f + (sigma + multiplicative f) xi), {INCREMENT}",
    ("current", "in"): "x' = (1 - gamma) x + gamma (W f(x) + W_in u + b + sigma xi)",
}


@click.command(short_help="What is in a checkpoint.", context_settings=WIDE)
@click.argument("model")
@click.option("--json", "json_path", metavar="FILE|-", help="Write it as JSON; - for stdout and nothing else.")
def command(model: str, json_path: str | None) -> None:
    """Say what network MODEL holds: its equation, sizes, noise, weights, conditions and how it was trained.

    \b
    Example:
      $ fpanalysis inspect model.pt
      model.pt
        equation        h' = (1 - gamma) h + gamma f(W h + W_in u + b + sigma xi)
        activation      ReLU()
        sizes           64 neurons, 1 inputs, 1 outputs
        training noise  sigma = 0.5 per step, inside the activation
        ...
    """
    check_outputs(json_path, models=[model])
    from fpanalysis.checkpoint import load

    net = load(model)
    facts = _facts(net)
    if json_path is not None:
        write_json(json_path, {"schema": "fpanalysis.inspect/1", **facts})
    if json_path != "-":
        _print(model, net, facts)


def _facts(net: Trained) -> dict[str, Any]:
    import numpy as np

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    return {
        "hash": net.hash,
        "form": net.form,
        **_noise(net),
        "activation": net.activation.config(),
        "neurons": net.N,
        "inputs": net.n_in,
        "outputs": net.n_out,
        "readout": net.W_out is not None,
        "gamma": plain(net.gamma),
        "sigma": plain(net.sigma),
        "spectral_radius": float(np.abs(np.linalg.eigvals(net.W)).max()),
        "weight_norm": float(np.linalg.norm(net.W, 2)),
        **_linear_part(net),
        "conditions": plain(net.conditions),
        "condition_names": names(net),
        "targets": plain(net.targets),
        "info": dict(net.info),
    }


def _noise(net: Trained) -> dict[str, Any]:
    """What the noise is beside sigma."""
    from fpanalysis.network import Network

    if isinstance(net, Network):
        return {"placement": net.placement}
    return {"placement": None, "multiplicative": net.multiplicative, "noise": net.noise}


def _linear_part(net: Trained) -> dict[str, Any]:
    """Of a Lipschitz RNN: where the eigenvalues of A lie, and its norm."""
    import numpy as np

    from fpanalysis.network import Network

    if isinstance(net, Network):
        return {}
    return {"A_abscissa": float(np.linalg.eigvals(net.A).real.max()), "A_norm": float(np.linalg.norm(net.A, 2))}


def _print(model: str, net: Trained, facts: dict[str, Any]) -> None:
    import numpy as np

    noise = np.unique(net.sigma)
    lines = [
        ("equation", EQUATIONS[net.form, facts.get("noise") or facts["placement"]]),
        ("activation", repr(net.activation)),
        (
            "sizes",
            f"{net.N} neurons, {net.n_in} inputs, {net.n_out} outputs" + ("" if facts["readout"] else " (all neurons)"),
        ),
        ("gamma", _span(np.unique(net.gamma)) + ("  (dt / tau)" if net.form != "lipschitz" else "  (step)")),
        ("training noise", f"sigma = {_span(noise)} per step, " + _where(net)),
        ("W", f"spectral radius {facts['spectral_radius']:.4g}, norm {facts['weight_norm']:.4g}"),
        ("conditions", _conditions(net)),
        ("hash", net.hash),
    ]
    if "A_norm" in facts:
        lines.insert(5, ("A", f"largest real part {facts['A_abscissa']:.4g}, norm {facts['A_norm']:.4g}"))
    if facts["condition_names"]:
        lines.insert(-1, ("for --input", "; ".join(facts["condition_names"])))
    click.echo(model)
    for name, text in lines:
        click.echo(f"  {name:<15} {text}")
    for name, value in net.info.items():
        click.echo(f"  {name:<15} {_brief(value)}")


def _where(net: Trained) -> str:
    from fpanalysis.network import Network

    if not isinstance(net, Network):
        return f"on the state; multiplicative = {net.multiplicative:g}, {net.noise}"
    if net.form == "current":
        return "on the current"
    return "inside the activation" if net.placement == "in" else "outside the activation"


def _span(values: Any) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}, one per neuron"


def _conditions(net: Trained) -> str:
    if net.conditions is None:
        return "none remembered: zero input unless --input is given"
    return f"{len(net.conditions)} constant inputs" + ("" if net.targets is None else ", with their targets")


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
