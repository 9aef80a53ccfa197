"""The main job: what the dataset holds, its summary, its files, and its statuses."""

import json

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.shift import SCHEMA

ARRAYS = {"mean", "shift", "error", "variance", "output", "output_shift", "output_error", "status"}


def network(**kwargs):
    rng = np.random.default_rng(0)
    N = 12
    arguments = {
        "W": 0.7 * rng.standard_normal((N, N)) / np.sqrt(N),
        "b": 0.3 * rng.standard_normal(N),
        "W_in": rng.standard_normal((N, 1)),
        "W_out": rng.standard_normal((2, N)) / N,
        "gamma": 0.2,
        "sigma": 0.5,
        "activation": "softplus",
        "conditions": [[-1.0], [0.0], [1.0]],
        "targets": np.zeros((3, 2)),
    }
    return fpa.Network(**(arguments | kwargs))


@pytest.fixture(scope="module")
def result():
    return fpa.shift(network(), sigma=(0, 0.25, 0.5), methods=("auto", "small-noise"))


def test_axes_and_variables(result):
    data = result.dataset
    assert data["shift"].dims == ("sigma", "condition", "fixed_point", "method", "neuron")
    assert data["shift"].shape == (3, 3, 1, 2, 12)
    assert data["output"].shape == (3, 3, 1, 2, 2)
    assert set(data) >= ARRAYS
    assert result.methods == ["auto", "small-noise"]
    assert data.attrs["schema"] == SCHEMA
    assert data.attrs["model"] == network().hash


def test_entries_are_those_of_stationary(result):
    for sigma, c in ((0.25, 0), (0.5, 2)):
        st = fpa.stationary(network(), network().conditions[c], sigma, method="closure")
        cell = result.dataset.sel({"sigma": sigma, "method": "auto"}).isel(condition=c, fixed_point=0)
        # within the closure's tolerance: a sweep starts each level from the one below
        np.testing.assert_allclose(cell["mean"], st.mean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(cell["shift"], st.mean - st.start, rtol=0, atol=1e-9)
        np.testing.assert_allclose(cell.output_shift, st.output - network().output(st.start), rtol=0, atol=1e-9)
        assert cell.status == "ok"


def test_no_noise_no_shift(result):
    assert not result.dataset["shift"].sel(sigma=0).values.any()
    assert result.levels[0].shift == result.levels[0].output_shift == 0


def test_the_summary_is_what_it_says(result):
    level = result.levels[2]
    chosen = result.dataset.sel({"sigma": 0.5, "method": "auto"})
    assert level.shift == pytest.approx(float(np.sqrt((chosen["shift"] ** 2).mean())))
    assert level.output_error == pytest.approx(float(np.sqrt((chosen.output**2).mean())))
    gap = np.abs(chosen["mean"] - result.dataset.sel({"sigma": 0.5, "method": "small-noise"})["mean"])
    both = np.sqrt((result.dataset.sel(sigma=0.5).error ** 2).sum("method")) / 1.959963984540054
    assert level.disagreement == pytest.approx(float((gap / both).max()))


def test_methods_that_disagree_say_so():
    """A stated error that is wrong must show: small noise far outside its range, against exactly known errors."""
    sh = fpa.shift(network(), sigma=(0.0, 0.5), methods=("closure", "small-noise"))
    shrunk = sh.dataset.copy()
    shrunk["error"] = sh.dataset.error * 1e-3
    level = fpa.Shift(shrunk).levels[1]
    assert fpa.Status.DISAGREE in level.statuses
    assert level.disagreement > level.disagreement_limit > 3


@pytest.mark.parametrize("suffix", [".nc", ".json", ".csv"])
def test_files(result, tmp_path, suffix):
    path = tmp_path / f"shift{suffix}"
    result.save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == ".nc":
        again = fpa.Shift.load(path)
        assert again.levels == result.levels
        for name in result.dataset:
            np.testing.assert_array_equal(again.dataset[name].values, result.dataset[name].values)
    elif suffix == ".json":
        document = json.loads(path.read_text())
        assert document["schema"] == SCHEMA
        assert np.shape(document["variables"]["shift"]["values"]) == (3, 3, 1, 2, 12)
    else:
        lines = path.read_text().splitlines()
        assert lines[0] == "sigma,condition,fixed_point,method,status,quantity,index,mean,shift,error"
        assert len(lines) == 1 + 3 * 3 * 1 * 2 * (12 + 2)


def test_bistable_networks_have_a_law_per_basin(tmp_path):
    net = fpa.Network(W=[[2.0]], b=[0.1], activation="tanh", gamma=0.1, sigma=0.1)
    sh = fpa.shift(net, methods=("closure",))
    assert sh.dataset.sizes["fixed_point"] == 2
    assert np.sign(sh.dataset["mean"].values[-1, 0, :, 0, 0]).tolist() in ([1.0, -1.0], [-1.0, 1.0])
    assert sh.dataset.sizes["sigma"] == 11


def test_conditions_with_fewer_points_are_padded(tmp_path):
    """A strong input leaves one well of two: the second place is NaN in the dataset, null in JSON, absent in CSV."""
    net = fpa.Network(W=[[2.0]], W_in=[[1.0]], activation="tanh", gamma=0.1, sigma=0.1, conditions=[[0.0], [2.0]])
    sh = fpa.shift(net, sigma=(0.1,), methods=("closure",))
    assert sh.ok
    assert np.isnan(sh.dataset["mean"].values[0, 1, 1, 0, 0])
    assert sh.dataset.status.values[0, 1, 1, 0] == ""
    assert sh.document()["variables"]["mean"]["values"][0][1][1][0] == [None]
    sh.save(tmp_path / "x.csv")
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 1 + 3 * 2
    sh.save(tmp_path / "x.nc")
    assert fpa.Shift.load(tmp_path / "x.nc").levels == sh.levels


def test_without_stable_fixed_point_the_status_says_so():
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2, sigma=0.2)
    sh = fpa.shift(net, sigma=(0.1, 0.2), methods=("closure",))
    assert [level.statuses for level in sh.levels] == [(fpa.Status.NO_STABLE_FIXED_POINT,)] * 2
    assert sh.levels[0].shift is None
    assert not sh.ok


def test_a_profile_of_noise_is_kept():
    """sigma per neuron: a level is the largest entry."""
    profile = np.linspace(0.2, 0.4, 12)
    sh = fpa.shift(network(sigma=profile), sigma=(0.2,), methods=("closure",))
    st = fpa.stationary(network(sigma=profile), [0.0], profile / 2, method="closure")
    np.testing.assert_allclose(sh.dataset["mean"].values[0, 1, 0, 0], st.mean, rtol=0, atol=1e-9)


def test_inputs_given_replace_the_conditions():
    sh = fpa.shift(network(), u=[0.5], sigma=(0.1,), methods="closure")
    assert sh.dataset.input.values.tolist() == [[0.5]]
    assert "target" not in sh.dataset
    assert fpa.shift(network(conditions=None, targets=None), sigma=(0.1,), methods="closure").dataset.input.item() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": (0.1, -0.1)}, "noise levels"),
        ({"sigma": (np.nan,)}, "finite"),
        ({"sigma": ()}, "noise levels"),
        ({"sigma": "loud"}, "sigma"),
        ({"methods": None}, "methods"),
        ({"settings": "x"}, "settings"),
        ({"settings": {"monte-carlooo": {}}}, "monte-carlooo"),
        ({"methods": ("closur",)}, "unknown stationary method"),
        ({"methods": ()}, "at least one"),
        ({"u": [1.0, 2.0]}, "1 input value"),
        ({"u": np.empty((0, 1))}, "n_cond"),
        ({"settings": {"closure": {"depth": 3}}, "methods": ("closure",)}, "depth"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.shift(network(), **arguments)


def test_bad_files(result, tmp_path):
    with pytest.raises(fpa.InputError, match=r"\.xls"):
        result.save(tmp_path / "x.xls")
    with pytest.raises(fpa.InputError, match="does not exist"):
        result.save(tmp_path / "missing" / "x.nc")
    with pytest.raises(fpa.InputError, match="no such file"):
        fpa.Shift.load(tmp_path / "x.nc")
    (tmp_path / "x.nc").write_text("not netCDF")
    with pytest.raises(fpa.InputError, match="not a netCDF file"):
        fpa.Shift.load(tmp_path / "x.nc")
