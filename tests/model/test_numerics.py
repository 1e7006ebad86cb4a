"""The plan as a file, and finding planned edges again in a file that renamed everything."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.grid import Grid
from edgeslim.model.numerics import (
    EdgeNumerics,
    LayerNumerics,
    Numerics,
    absences,
    load_numerics,
    match_values,
    operators_on_integers,
)

RANDOM = np.random.default_rng(11)
NAMES = st.text(min_size=1, max_size=8)
SCALES = st.floats(2.0**-100, 2.0**100, width=32)
EDGES = st.builds(EdgeNumerics, scale=SCALES, zero_point=st.integers(0, 255), tied_to=NAMES)
LAYERS = st.builds(
    LayerNumerics,
    weight=NAMES,
    precision=st.sampled_from(["int8", "fp32"]),
    inputs=NAMES,
    output=NAMES,
    weight_scales=st.lists(SCALES, max_size=3).map(tuple),
)
PLANS = st.builds(Numerics, st.dictionaries(NAMES, EDGES, max_size=3), st.dictionaries(NAMES, LAYERS, max_size=3))


def values(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(plan=PLANS)
def test_a_plan_survives_its_file_to_the_last_bit(plan, tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("plan") / "numerics.json"
    plan.save(path)
    assert load_numerics(path) == plan


@settings(max_examples=30, deadline=None)
@given(edge=EDGES)
def test_a_range_ends_at_the_first_and_the_last_code_and_holds_zero(edge):
    assert edge.low <= 0 <= edge.high
    assert edge.high - edge.low == pytest.approx(255 * edge.scale)


def test_integer_layers_are_those_that_are_not_kept_float_in_their_order():
    def layer(precision: str) -> LayerNumerics:
        return LayerNumerics("w", precision, "x", "y", ())

    plan = Numerics({}, {"b": layer("int8"), "a": layer("fp32"), "c": layer("int8")})
    assert plan.integer_layers == ["b", "c"]


def test_an_edge_is_found_by_its_values_whatever_its_name_layout_or_shape():
    planned = {"conv": values(1, 4, 3, 5), "other": values(1, 4, 3, 5), "linear": values(1, 10)}
    found = {
        "t0": planned["conv"],
        "t1": planned["conv"].transpose(0, 2, 3, 1),
        "t2": planned["conv"].reshape(1, -1),
        "t3": planned["linear"].reshape(1, 1, 1, 10),
        "t4": planned["other"].transpose(0, 2, 3, 1).reshape(-1),
    }
    assert match_values(planned, found) == {"t0": "conv", "t1": "conv", "t2": "conv", "t3": "linear", "t4": "other"}


@pytest.mark.parametrize(("error", "is_found"), [(0.9e-3, True), (1.1e-3, False)])
def test_values_may_differ_by_a_thousandth_of_the_largest(error, is_found):
    planned = values(1, 2, 3, 3)
    planned.flat[0] = 10.0  # the largest
    found = planned.copy()
    found.flat[1] += 10.0 * error
    assert bool(match_values({"edge": planned}, {"tensor": found})) == is_found


def test_the_nearest_of_several_edges_is_taken():
    planned = {"near": values(1, 8)}
    planned["nearer"] = planned["near"] + np.float32(1e-4)
    assert match_values(planned, {"t": planned["nearer"]}) == {"t": "nearer"}
    assert match_values(planned, {"t": planned["near"]}) == {"t": "near"}


@pytest.mark.parametrize("fill", [np.nan, np.inf, 0.0])
def test_a_tensor_of_other_values_is_no_edge(fill):
    assert match_values({"edge": values(1, 8)}, {"t": np.full((1, 8), fill, np.float32)}) == {}


def test_tensors_of_another_size_are_no_candidates():
    assert match_values({"edge": values(1, 8)}, {"t": values(1, 9)}) == {}


def test_an_edge_that_a_file_leaves_out_has_a_reason_only_where_one_was_found():
    planned = {"relu": values(1, 8), "gelu": values(1, 4), "add": values(1, 5)}
    planned["flatten"] = planned["relu"].copy()
    matched = {"a": "relu", "b": "gelu"}
    assert absences(planned, matched, {"relu": "a"}, "kept float") == {
        "flatten": "same values as `relu`",
        "gelu": "kept float",
    }


def test_values_that_are_zero_throughout_match_nothing():
    dead = np.zeros((1, 8), np.float32)
    assert match_values({"edge": dead}, {"t": dead}) == {}


GRIDS = st.builds(Grid, scale=st.floats(2.0**-20, 2.0**20, width=32), zero_point=st.integers(-128, 127))


@given(GRIDS)
def test_every_code_of_a_grid_comes_back_from_its_real_value(grid):
    codes = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(grid.codes(grid.real(codes)), codes)


@given(GRIDS, st.lists(st.floats(-1.0, 1.0, width=32), min_size=1, max_size=8))
def test_a_value_on_a_grid_is_off_by_half_a_step_and_beyond_it_gets_its_end(grid, shares):
    low, high = grid.ends
    values = np.array([share * (high - low) for share in shares], np.float32)
    error = np.abs(grid.real(grid.codes(values)) - values.clip(low, high))
    assert float(error.max()) <= 0.5001 * grid.scale


CHAIN = {"x": [], "a": ["x"], "pool": ["a"], "gate": ["pool"], "b": ["gate"], "sum": ["b", "gate"]}


@pytest.mark.parametrize(
    ("int8", "moving", "wanted"),
    [
        ({"a", "b"}, (), {"pool", "gate", "sum"}),
        ({"b"}, (), {"sum"}),  # codes of b, and what is read with them
        ({"b"}, ("pool",), {"sum"}),  # what reads the pool computes in float
        ({"b"}, ("pool", "gate"), {"pool", "gate", "sum"}),
        ({"a"}, (), {"pool", "gate", "sum"}),  # codes of a reach an output
        (set(), ("pool", "gate"), set()),
    ],
)
def test_an_operator_runs_on_integers_where_codes_come_in_and_go_out_and_a_layer_is_one_end(int8, moving, wanted):
    assert operators_on_integers(CHAIN, int8, {"a", "b"} - int8, ["sum"], moving) == wanted


def test_what_no_layer_reads_or_writes_is_float_and_an_unused_operator_too():
    reads = {"x": [], "a": ["x"], "skip": ["x"], "dead": ["a"], "out": ["a"]}
    assert operators_on_integers(reads, {"a"}, set(), ["out", "skip"], ()) == {"out"}
