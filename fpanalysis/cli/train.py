"""``fpanalysis train``: a network trained with noise, ready to be analysed, or a whole study of them."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._options import WIDE, Levels, Numbers, Several
from fpanalysis.cli._report import FIGURE_TYPES, check_suffix
from fpanalysis.results import check_writable

if TYPE_CHECKING:
    from fpanalysis.models import Evaluation, Training
    from fpanalysis.tasks import Task


class Assignment(click.ParamType):
    """A named number or word: ``c=0.1``."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float | str]:
        name, _, given = str(value).partition("=")
        if not name or not given:
            self.fail(f"{value!r} is not NAME=VALUE, such as c=0.1", param, ctx)
        try:
            return name, int(given) if given.lstrip("-").isdecimal() else float(given)
        except ValueError:
            return name, given


#: options of which several values make a study
AXES = ("placement", "activation", "noise", "multiplicative", "size", "gamma")
TRIALS, IMAGES = 64, 512  #: that a network is tested on, and of a task of classes, whose accuracy is coarse


@click.command(context_settings=WIDE)
@click.argument("task")
@click.option("--placement", type=Several(click.Choice(["in", "out"])), metavar="in|out", default="in",
              show_default=True, help="Noise inside or outside the activation.")  # fmt: skip
@click.option("--activation", type=Several(click.STRING), metavar="NAME",
              help="relu, softplus, tanh, ...  [default: the task's]")  # fmt: skip
@click.option("--noise", type=Levels(), help="Training noise sigma, per step.  [default: the task's]")
@click.option("--form", type=click.Choice(["rate", "current", "lipschitz"]), default="rate", show_default=True,
              help="State: rates, currents, or that of a Lipschitz RNN (tanh).")  # fmt: skip
@click.option("--multiplicative", type=Several(click.FloatRange(min=0)), metavar="M",
              help="Noise of a Lipschitz RNN on its increment, relative.  [default: 0]")  # fmt: skip
@click.option("--joint", is_flag=True, help="The same xi for both noises of a Lipschitz RNN.")
@click.option("--layers", type=Numbers(), metavar="N,N,...",
              help="A feedforward network with layers of these sizes, such as 64,64,64.")  # fmt: skip
@click.option("--size", type=Several(click.INT), metavar="N", help="Neurons.  [default: the task's]")
@click.option("--gamma", type=Several(click.FLOAT), metavar="GAMMA", help="dt / tau, in (0, 1].  [default: the task's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, batches and noise.")
@click.option("--seeds", type=click.IntRange(min=1), help="A study: so many seeds, from --seed on.")
@click.option("--steps", type=int, help="Training steps.  [default: the task's]")
@click.option("--batch", type=int, help="Trials per step.  [default: the task's]")
@click.option("--lr", type=float, help="First learning rate of Adam.  [default: the task's]")
@click.option("--setting", type=Assignment(), multiple=True, help="A setting of the task, such as c=0.1 (repeatable).")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of torch, in each process.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Of a study.")
@click.option("--device", default="cpu", show_default=True, help="Where torch trains: cpu, cuda, ...")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training or study, or extend a study.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="model.pt", show_default=True,
              help="The network's file, or the study's folder.")  # fmt: skip
@click.option("--figure", "figure_path", metavar="FILE", help="Draw a study's learning curves (.png, .pdf, .svg).")
@click.pass_context
def command(
    ctx: click.Context,
    task: str,
    setting: tuple[tuple[str, float | str], ...],
    layers: tuple[float, ...] | None,
    output: Path,
    resume: bool,
    seeds: int | None,
    processes: int,
    figure_path: str | None,
    **settings: Any,
) -> None:
    """Train a network on TASK, such as function-approximation or flip-flop (an unknown one lists them all).

    Ctrl-C keeps what was done in OUTPUT.partial; the same command with --resume goes on from there, to the
    same network as without the interruption.

    --seeds, or several values (a,b,c) of --noise, --multiplicative, --placement, --activation, --size or --gamma, make
    a study: every combination is trained into the folder OUTPUT, with a manifest.json. It is resumed, and extended by
    further values, in the same way.

    \b
    Examples:
      $ fpanalysis train function-approximation --noise 0.5 -o model.pt
      wrote model.pt: relu, N = 64, noise in, sigma = 0.5
      training loss, last 50 steps   0.006159
      test loss at noise 0.5         0.005777 +- 0.0001
      test loss, noise removed       0.4759
      R = removed / at noise         82.4
      next: fpanalysis shift model.pt --noise 0:0.5

    \b
      $ fpanalysis train flip-flop --form lipschitz --noise 0.5 --multiplicative 0.05 -o bits.pt
      wrote bits.pt: tanh, N = 64, lipschitz form, sigma = 0.5, multiplicative = 0.05
      training loss, last 50 steps   0.03279
      test loss at noise 0.5         0.03195 +- 0.0002
      test loss, noise removed       0.01298
      R = removed / at noise         0.406
      next: fpanalysis preference bits.pt

    \b
      $ fpanalysis train regulator --noise 0.1,0.5 --placement in,out --seeds 4 -o regulators
      regulators: regulator, 16 of 16 networks trained
    \b
      activation  placement  noise  trained  final loss                range
            relu         in    0.1   4 of 4    0.000436   0.000349 - 0.00048
            relu         in    0.5   4 of 4     0.00431    0.00379 - 0.00459
            relu        out    0.1   4 of 4     0.00043  0.000346 - 0.000531
            relu        out    0.5   4 of 4     0.00748    0.00637 - 0.00821
    \b
      next: fpanalysis preference regulators
    """
    from fpanalysis.activations import get_activation
    from fpanalysis.tasks import get_task

    chosen = get_task(task, **dict(setting), layers=layers)
    for name in settings["activation"] or ():
        get_activation(name)
    several = seeds is not None or any(len(settings[name] or ()) > 1 for name in AXES)
    noise = settings.pop("noise")
    settings["noise"] = "joint" if settings.pop("joint") else None
    if several:
        from fpanalysis.cli._study import run_study

        _check_study(output, figure_path)
        settings["seed"] = range(settings["seed"], settings["seed"] + (seeds or 1))
        settings |= {"sigma": noise, "resume": resume, "processes": processes}
        run_study(chosen, output, figure_path, f"{_typed(ctx)} --resume", **settings)
        return
    if figure_path is not None or processes > 1:
        raise click.UsageError("--figure and --processes are for a study: several networks, such as --seeds 8")
    check_writable(output)
    one = {name: value[0] if isinstance(value, tuple) else value for name, value in settings.items()}
    _train_one(ctx, chosen, output, resume, sigma=None if noise is None else noise[0], **one)


def _check_study(output: Path, figure: str | None) -> None:
    """Refuse, before anything is trained, what cannot be written."""
    if output.suffix == ".pt":
        raise click.UsageError(f"several networks make a study, which needs a folder: -o DIR; found {output}")
    check_suffix("--figure", figure, FIGURE_TYPES)
    if figure is not None and Path(figure).resolve().parent != output.resolve():
        check_writable(figure)


def _train_one(ctx: click.Context, task: Task, output: Path, resume: bool, **settings: Any) -> None:
    """Train one network into the file `output`, and say how it does without its noise."""
    partial = output.with_name(output.name + ".partial")
    if partial.exists() and not resume:
        click.echo(
            f"starting anew: the unfinished training in {partial} is dropped (--resume goes on from it)", err=True
        )

    from fpanalysis.checkpoint import save

    try:
        training = _train(task, partial=partial, resume=resume, **settings)
    except KeyboardInterrupt:
        kept = f"what was done is in {partial}. Go on with: {_typed(ctx)} --resume"
        raise click.ClickException(f"interrupted; {kept if partial.exists() else 'nothing was done yet'}") from None
    partial.unlink(missing_ok=True)  # also after a training that diverged: there is nothing to go on with
    save(training.network(), output)
    _report(task, training, output)
    _check_learned(task, training)


def _train(task: Task, **settings: Any) -> Training:
    """Train with a progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fpanalysis.models import train

    console = Console(stderr=True)
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.2e}"),
               TextColumn("time left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        total = settings["steps"] or task.defaults.steps
        row, smooth = bar.add_task("", total=total, loss=float("nan")), float("nan")

        def progress(step: int, losses: Any) -> None:
            nonlocal smooth
            smooth = float(losses[0]) if smooth != smooth else 0.95 * smooth + 0.05 * float(losses[0])
            bar.update(row, completed=step, loss=smooth)

        return train(task, progress=progress, **settings)


def _report(task: Task, training: Training, output: Path) -> None:
    from fpanalysis.models import evaluate

    net = training.network()
    sigma = training.settings.sigma[0]
    where = f"noise {net.placement}" if net.form == "rate" else f"{net.form} form"
    click.echo(f"wrote {output}: {net.activation.name}, N = {net.N}, {where}, sigma = {sigma:g}{_multiplicative(net)}")
    averaged = f"training loss, last {min(50, training.settings.steps)} steps"
    click.echo(f"{averaged:<31}{training.final_loss():.4g}")
    classes = task.loss == "cross-entropy"
    if sigma == 0 and getattr(net, "multiplicative", 0):  # which levels of sigma do not tell: what is left is no noise
        net = dataclasses.replace(net, multiplicative=0.0)
    if sigma > 0 or classes:
        _report_test(evaluate(net, task, sorted({0.0, sigma}), inputs=IMAGES if classes else TRIALS), sigma, classes)
    file = shlex.quote(str(output))
    steady = net.form != "lipschitz" and not classes
    noisy = f"shift {file} --noise 0:{sigma:g}" if steady else f"preference {file}"
    click.echo(f"next: fpanalysis {noisy if sigma > 0 else f'inspect {file}'}")


def _report_test(test: Evaluation, sigma: float, classes: bool) -> None:
    """Losses with and without noise, and the share of trials in the right class."""
    clean, noisy = test.loss[0, [0, -1]]
    if sigma > 0:
        click.echo(f"test loss at noise {sigma:<11g} {noisy:.4g} +- {test.error[0, -1]:.1g}")
        click.echo(f"test loss, noise removed       {clean:.4g}")
        click.echo(f"R = removed / at noise         {clean / noisy:.3g}")
    if classes and test.success is not None:
        tried = f" (of {test.inputs} test trials)"
        if sigma > 0:
            click.echo(f"accuracy at noise {sigma:<12g} {test.success[0, -1]:.4f}{tried}")
        click.echo(f"accuracy, noise removed        {test.success[0, 0]:.4f}{tried if sigma == 0 else ''}")


def _multiplicative(net: Any) -> str:
    strength = getattr(net, "multiplicative", 0)
    return f", multiplicative = {strength:g}" if strength else ""


def _check_learned(task: Task, training: Training) -> None:
    """Exit with 3, saying so, if the network learned nothing."""
    from fpanalysis.models._outcome import constant_loss, status_of

    constant = constant_loss(task)
    status = status_of(training, 0, constant)
    if status.failed:
        click.echo(f"{status.value} (a constant output: loss {constant:.4g}): {status.advice}", err=True)
        raise click.exceptions.Exit(3)


def _typed(ctx: click.Context) -> str:
    """The command line that was typed, without --resume."""
    words = ["fpanalysis", "train"]
    for parameter in ctx.command.params:
        value: Any = ctx.params.get(parameter.name or "")
        given = ctx.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if not given or parameter.name == "resume":
            continue
        if isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(parameter.opts[0])
        elif parameter.name == "setting":
            words += [word for name, given in value for word in ("--setting", f"{name}={given}")]
        elif parameter.name == "layers":
            words += ["--layers", ",".join(f"{size:g}" for size in value)]
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [text] if isinstance(parameter, click.Argument) else [parameter.opts[0], text]
    return shlex.join(words)
