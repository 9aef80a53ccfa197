"""The main job: how far noise moves the fixed points, over inputs, stable fixed points, noise levels and methods."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

import fpanalysis
from fpanalysis._levels import Level, summary
from fpanalysis.checks import check_levels
from fpanalysis.fixed_points import FixedPoints, find_fixed_points
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError, write_atomically
from fpanalysis.stationary import AUTO, Problem, Stationary, locate, methods, solve
from fpanalysis.stationary._auto import about_start

if TYPE_CHECKING:
    import xarray

Array = NDArray[np.float64]

SCHEMA = "fpanalysis.shift/1"


@dataclass(frozen=True, eq=False)
class Shift:
    """Noise-shifted stationary means of a network.

    `dataset` is an ``xarray.Dataset`` over (sigma, condition, fixed_point, method, neuron / output):

        mean, shift = mean - h_star, error (95 %), variance        per neuron
        output, output_shift = output - z_star, output_error       per output
        status                                                      code of a :class:`Status`
        h_star, z_star, relaxation_time, stable                     the fixed points without noise
        input, target                                               the conditions

    A condition with fewer stable fixed points than others is padded with NaN and status "". To pick a method
    write ``dataset.sel({"method": "auto"})``: as a keyword, `method` means something else to xarray.
    """

    dataset: xarray.Dataset

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.dataset.sizes.items())
        return f"Shift({sizes}; {'ok' if self.ok else 'see .levels for statuses'})"

    @property
    def methods(self) -> list[str]:
        return [str(name) for name in self.dataset.method.values]

    @property
    def method_names(self) -> list[str]:
        """The methods, "auto" by what it chose."""
        return [str(self.dataset.attrs["auto"]) if name == AUTO else name for name in self.methods]

    @property
    def training_sigma(self) -> float:
        return float(self.dataset.attrs["training_sigma"])

    @property
    def reasons(self) -> list[str]:
        """What methods said about results that are not ok, "status: reason", each once."""
        return str(self.dataset.attrs.get("reasons", "")).splitlines()

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """A summary per noise level."""
        count = self.dataset.sizes["sigma"]
        return tuple(summary(self.dataset.isel(sigma=k), count) for k in range(count))

    @property
    def ok(self) -> bool:
        """Whether every result converged and the methods agree."""
        return all(level.ok for level in self.levels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `path` by its suffix: ``.nc`` (netCDF, read back by :meth:`load`), ``.json`` or ``.csv``."""
        writers = {".nc": self._write_netcdf, ".json": self._write_json, ".csv": self._write_csv}
        suffix = Path(path).suffix
        if suffix not in writers:
            raise InputError(f"cannot save as {suffix!r}: path must end in {', '.join(writers)}; found {path}")
        with write_atomically(path) as temporary:
            writers[suffix](temporary)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Shift:
        """Read what :meth:`save` wrote as netCDF."""
        import xarray

        if not Path(path).is_file():
            raise InputError(f"cannot read {path}: no such file")
        try:
            with xarray.open_dataset(path, engine="scipy") as dataset:
                dataset.load()
        except (TypeError, ValueError, OSError, IndexError, KeyError):
            raise InputError(f"{path} is not a netCDF file that Shift.save wrote") from None
        if dataset.attrs.get("schema") != SCHEMA:
            raise InputError(f"{path}: expected schema {SCHEMA!r}, found {dataset.attrs.get('schema')!r}")
        for name in ("method", "status"):
            dataset[name] = dataset[name].astype(str)
        return cls(dataset)

    def document(self) -> dict[str, Any]:
        """Everything as plain lists and numbers for JSON, NaN as None."""
        data = self.dataset
        return {
            "schema": SCHEMA,
            "version": data.attrs["version"],
            "model": data.attrs["model"],
            "training_sigma": self.training_sigma,
            "seed": data.attrs["seed"],
            "sigma": data.sigma.values.tolist(),
            "methods": self.methods,
            "levels": [
                {**vars(level), "statuses": [status.value for status in level.statuses]} for level in self.levels
            ],
            "variables": {
                name: {"dims": list(data[name].dims), "values": _plain(data[name].values)} for name in map(str, data)
            },
        }

    def _write_netcdf(self, path: Path) -> None:
        self.dataset.to_netcdf(path, engine="scipy")

    def _write_json(self, path: Path) -> None:
        import json

        path.write_text(json.dumps(self.document(), allow_nan=False), encoding="utf-8")

    def _write_csv(self, path: Path) -> None:
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["sigma", "condition", "fixed_point", "method", "status", "quantity", "index", "mean", "shift", "error"]
            )
            writer.writerows(_rows(self.dataset))


def shift(
    net: Network,
    u: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    methods: Sequence[str] = (AUTO, "monte-carlo"),
    rng: int | Generator = 0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Shift:
    """Shift of every stable fixed point by noise.

    Parameters
    ----------
    u : (n_in,) or (n_cond, n_in), optional
        Constant inputs; None means the network's conditions if it has any, else zero input.
    sigma : numbers, optional
        Noise levels; None means 11 levels from 0 to the training noise. A network trained with a sigma per
        neuron keeps that profile: a level is then its largest entry.
    methods : names of stationary methods, the first of which is summarised.
    settings : ``{method: {name: value}}``, passed to the methods.

    Raises
    ------
    InputError
        On values that do not fit the network, or unknown methods.
    """
    inputs, targets = conditions(net, u)
    levels = _levels(net, sigma)
    methods = _checked_methods(methods)
    settings = {AUTO: {"referee": False}} | _checked_settings(settings, methods)  # the other methods check it
    found = [find_fixed_points(net, u_c, rng=0, prove=False) for u_c in inputs]
    starts = [_starts(net, points) for points in found]
    problems = {
        (k, c, j): Problem(net, inputs[c], level * net.noise_profile, start.start, start.stable, local=start.stable)
        for c, condition in enumerate(starts)
        for j, start in enumerate(condition)
        for k, level in enumerate(levels)
    }
    results = {}
    for name in methods:
        laws = solve(list(problems.values()), name, rng, **settings.get(name, {}))
        results[name] = {key: about_start(problems[key], st) for key, st in zip(problems, laws, strict=True)}
    data = _dataset(net, inputs, targets, levels, starts, results)
    seed = int(rng) if isinstance(rng, int | np.integer) else -1
    used = {name: "/".join(sorted({st.method for st in by_problem.values()})) for name, by_problem in results.items()}
    laws = [st for by_problem in results.values() for st in by_problem.values()]
    pairs = [int(st.details["chains"]) // 2 for st in laws if "chains" in st.details]
    freedom = min(pairs) - 1 if pairs else 0
    reasons = dict.fromkeys(f"{st.status.value}: {st.reason}" for st in laws if st.reason and not st.status.ok)
    data.attrs |= {
        "seed": seed,
        "auto": used.get(AUTO, ""),
        "degrees_of_freedom": freedom,
        "reasons": "\n".join(reasons),
    }
    return Shift(data)


def conditions(net: Network, u: ArrayLike | None) -> tuple[Array, Array | None]:
    """`inputs_of` a `Network`; anything else is refused."""
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    return inputs_of(net, u)


def inputs_of(net: Network | LipschitzRNN, u: ArrayLike | None) -> tuple[Array, Array | None]:
    """Inputs (n_cond, n_in) to analyse at, and their targets: `u`, or the network's conditions, or zero input."""
    if u is None and net.conditions is not None:
        return net.conditions, net.targets
    inputs = np.atleast_2d(net.check_input(u))
    if inputs.ndim != 2 or not len(inputs):
        raise InputError(f"u must be ({net.n_in},) or (n_cond, {net.n_in}); found shape {inputs.shape}")
    return inputs, None


def _levels(net: Network, sigma: ArrayLike | None) -> Array:
    top = float(np.max(net.sigma))
    return check_levels(np.linspace(0, top, 11 if top else 1) if sigma is None else sigma)


def _checked_methods(names: Sequence[str]) -> list[str]:
    if not isinstance(names, str | list | tuple):
        raise InputError(f"methods must be names of stationary methods; found {names!r}")
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    known = [AUTO, *methods()]
    for name in names:
        if name not in known:
            raise InputError(f"unknown stationary method {name!r}; known: {', '.join(known)}")
    if not names:
        raise InputError("methods must name at least one stationary method")
    return names


def _checked_settings(settings: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or not all(isinstance(value, Mapping) for value in settings.values()):
        raise InputError(f"settings must be {{method: {{name: value}}}}; found {settings!r}")
    strange = [str(name) for name in settings if name not in names]
    if strange:
        raise InputError(f"settings for {', '.join(strange)}, not among the methods asked for: {', '.join(names)}")
    return {name: dict(value) for name, value in settings.items()}


def _starts(net: Network, points: FixedPoints) -> list[Problem]:
    """A problem per stable fixed point; without one, a single problem at the end of the noise-free trajectory."""
    if points.stable.any():
        return [Problem(net, points.u, 0.0, h) for h in points.h[points.stable]]
    return [locate(net, points.u, 0.0, np.zeros(net.N))]


def _dataset(
    net: Network,
    inputs: Array,
    targets: Array | None,
    levels: Array,
    starts: list[list[Problem]],
    results: dict[str, dict[tuple[int, int, int], Stationary]],
) -> xarray.Dataset:
    import xarray

    shape = (len(levels), len(inputs), max(map(len, starts)), len(results))
    fields: dict[str, Array] = {name: np.full((*shape, net.N), np.nan) for name in ("mean", "error", "variance")}
    fields |= {name: np.full((*shape, net.n_out), np.nan) for name in ("output", "output_error")}
    status = np.full(shape, "", dtype="<U24")
    for m, by_problem in enumerate(results.values()):
        for (k, c, j), st in by_problem.items():
            at = (k, c, j, m)
            fields["mean"][at], fields["error"][at], fields["variance"][at] = st.mean, st.error, np.diag(st.cov)
            fields["output"][at], fields["output_error"][at] = st.output, st.output_error
            status[at] = st.status.value
    h_star, stable, tau = _fixed_point_fields(net, starts, shape[1:3])
    z_star = net.output(h_star)
    axes = ("sigma", "condition", "fixed_point", "method")
    data: dict[str, Any] = {
        name: ((*axes, "output_unit" if name.startswith("output") else "neuron"), values)
        for name, values in fields.items()
    }
    data["shift"] = ((*axes, "neuron"), fields["mean"] - h_star[None, :, :, None])
    data["output_shift"] = ((*axes, "output_unit"), fields["output"] - z_star[None, :, :, None])
    data["status"] = (axes, status)
    data["h_star"] = (("condition", "fixed_point", "neuron"), h_star)
    data["z_star"] = (("condition", "fixed_point", "output_unit"), z_star)
    data["stable"] = (("condition", "fixed_point"), stable)
    data["relaxation_time"] = (("condition", "fixed_point"), tau)
    data["input"] = (("condition", "input_unit"), inputs)
    if targets is not None:
        data["target"] = (("condition", "output_unit"), targets)
    attrs = {
        "schema": SCHEMA,
        "version": fpanalysis.__version__,
        "model": net.hash,
        "training_sigma": float(np.max(net.sigma)),
        "network": repr(net),
    }
    return xarray.Dataset(data, coords={"sigma": levels, "method": list(results)}, attrs=attrs)


def _fixed_point_fields(
    net: Network, starts: list[list[Problem]], shape: tuple[int, ...]
) -> tuple[Array, NDArray[np.int8], Array]:
    """h* (n_cond, K, N; NaN where there is none), stability, and relaxation time -1 / log(spectral radius)."""
    h_star, tau = np.full((*shape, net.N), np.nan), np.full(shape, np.nan)
    stable = np.zeros(shape, np.int8)
    for c, condition in enumerate(starts):
        for j, problem in enumerate(condition):
            if problem.stable:
                h_star[c, j], stable[c, j] = problem.start, 1
                radius = np.abs(np.linalg.eigvals(net.jacobian(problem.start, problem.u))).max()
                tau[c, j] = -1 / np.log(radius) if radius > 0 else 0.0
    return h_star, stable, tau


def _plain(values: NDArray[Any]) -> Any:
    if values.dtype.kind == "f":
        boxed = values.astype(object)
        boxed[~np.isfinite(values)] = None
        return boxed.tolist()
    return values.tolist()


def _rows(data: xarray.Dataset) -> Iterable[list[Any]]:
    """Long-form rows, one per number."""
    parts = {"neuron": ("mean", "shift", "error"), "output": ("output", "output_shift", "output_error")}
    status = data.status.values
    for quantity, names in parts.items():
        mean, moved, error = (data[name].values for name in names)
        for at in np.ndindex(*mean.shape):
            if status[at[:4]]:
                k, c, j, m, index = at
                head = [float(data.sigma[k]), c, j, str(data.method.values[m]), status[at[:4]], quantity, index]
                yield [*head, *(v[at] if np.isfinite(v[at]) else "" for v in (mean, moved, error))]
