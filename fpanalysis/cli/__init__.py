"""The command line. One file per command: ``cli/<name>.py`` with a click command called `command`.

Files whose name starts with an underscore are shared parts. Command files import heavy packages inside the
command, so that every ``--help`` is quick. Exit status: 0 done; 1 the input cannot be used; 2 wrong usage;
3 done, but some result did not converge.
"""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from typing import Any

import click

import fpanalysis
from fpanalysis.results import InputError

# Matrices here are small: a second BLAS thread gains little, and on a busy machine costs up to tenfold.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

CITATION = """\
If fpanalysis contributed to your work, please cite the software and the papers it builds on:

  fpanalysis {version}: an analytical fixed-point and stationary-distribution analyzer for noisy
  recurrent networks.

  Eckstein & Srinivasan. Paradoxical noise preference in RNNs.
  Transactions on Machine Learning Research, 2026. arXiv:2601.04539

  Lim, Erichson, Hodgkinson & Mahoney. Noisy Recurrent Neural Networks.
  Advances in Neural Information Processing Systems 34, 2021. arXiv:2102.04877
"""

ORDER = (
    *("train", "inspect", "fixed-points", "shift", "stationary"),
    *("bias", "preference", "denoise", "regularizer", "flatness", "stability", "robustness", "regulator"),
)  #: a first session, in this order; the rest by name


class Commands(click.Group):
    """A group that finds its commands among the files of this folder, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = [module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"]
        return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        return import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.ClickException(str(error)) from None
        except MemoryError as error:
            raise click.ClickException(f"not enough memory ({error}): ask for less at once") from None


def _cite(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(CITATION.format(version=fpanalysis.__version__), nl=False)
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fpanalysis.__version__, prog_name="fpanalysis")
@click.option("--cite", is_flag=True, is_eager=True, expose_value=False, callback=_cite, help="How to cite, and exit.")
def main() -> None:
    """What noise did to a recurrent network: its fixed points, how noise shifts them, and the bias it leaves.

    \b
    A first session:
      fpanalysis train function-approximation --noise 0.5 -o model.pt
      fpanalysis inspect model.pt
      fpanalysis fixed-points model.pt
      fpanalysis shift model.pt --noise 0:0.5 --figure shift.png
    """
