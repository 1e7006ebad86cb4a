"""From the counts of an emulated run to seconds on the device: cycles = costs times counts, and how sure that is.

The model is linear: a device takes sum_g a_g n_g cycles for n_g counts of a group g. The a_g are fitted on networks
whose time on the real board is known, and an estimate carries the error seen on networks left out of the fit.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from edgeslim import units
from edgeslim.devices.emulation import CLASSES, COUNTS, MISSES, Cost, Errors, Estimator, Speedup
from edgeslim.devices.profile import DeviceProfile, Precision, all_profiles
from edgeslim.devices.profile import Power as BoardPower
from edgeslim.devices.sourced import Hertz
from edgeslim.errors import InvalidMeasurement, Refused, near_misses

TRANSFER_BAND = 0.30  # for another runtime's float code; a convention: nobody has held it against a board
COVERAGE = 0.9  # of the networks left out, those that must lie within the band
MEASURE = "measure on the board with `edgeslim bench ARTIFACT --on ssh://USER@BOARD`"

SIMD = ("fma_vec", "fma_vec_fp16", "mmla", "sdot_udot", "simd_other", "smlal_smull", "sve")
STORES = ("st", "vst")
LOADS = ("ld", "vld")

Groups = Mapping[str, tuple[str, ...]]


def _all_but(*left_out: str) -> tuple[str, ...]:
    return tuple(name for name in CLASSES if name not in left_out)


# How instructions may be grouped, from few costs to many, and which misses beside them.
INSTRUCTIONS: tuple[Groups, ...] = (
    {"instructions": ("insns",)},
    {"stores": STORES, "other instructions": _all_but(*STORES)},
    {"SIMD": SIMD, "loads and stores": LOADS + STORES, "other instructions": _all_but(*SIMD, *LOADS, *STORES)},
    {"SIMD": SIMD, "stores": STORES, "other instructions": _all_but(*SIMD, *STORES)},
)
CACHES: tuple[Groups, ...] = (
    {"L2 misses": ("l2_miss",)},
    {"L1 misses": ("l1d_miss",), "L2 misses": ("l2_miss",)},
    {"L2 misses": ("l2_miss",), "L3 misses": ("l3_miss",)},
)


@dataclass(frozen=True)
class Observation:
    """One network with its counts for an inference and the cycles that the real device took, at 1 thread."""

    network: str
    precision: Precision
    counts: Mapping[str, float]
    cycles: float


@dataclass(frozen=True)
class Estimate:
    """How long an inference takes on a device nobody ran it on; `low_s` and `high_s` are None where nobody knows.

    `basis` says what it rests on ("ncnn-fitted"). Where it is not `decisive`, nothing may be decided by it alone, and
    `note` says why.
    """

    s: float
    low_s: float | None
    high_s: float | None
    basis: str
    decisive: bool
    note: str | None
    kind: Literal["estimated"] = "estimated"

    @property
    def interval(self) -> str:
        """The interval, or the figure where there is none: "88-105 ms"."""
        if self.low_s is None or self.high_s is None:
            return units.show_seconds(self.s)
        low, high = units.show_seconds(self.low_s), units.show_seconds(self.high_s)
        (number, unit), high_unit = low.split(), high.split()[1]
        return f"{number if unit == high_unit else low}-{high}"

    @property
    def shown(self) -> str:
        """The interval with what it rests on: "88-105 ms (estimated, ncnn-fitted)"."""
        return f"{self.interval} ({self.kind}, {self.basis})"


def estimator_of(profile: DeviceProfile) -> Estimator:
    """Return the estimator of a device; Refused where its profile has none, with the devices that have one."""
    if profile.estimator is None:
        known = ", ".join(one.name for one in all_profiles() if one.estimator is not None)
        raise Refused(
            f"{profile.name}: its profile has no `estimator`, so counts do not become seconds; {MEASURE}, or ask for "
            f"a device that has one: {known}"
        )
    return profile.estimator


def calibrated_for(profile: DeviceProfile, runtime: str) -> bool:
    """Return whether the profile's estimator was fitted on a runtime's own INT8 files, so that it may decide."""
    estimator = profile.estimator
    return estimator is not None and estimator.runtime == runtime and "int8" in estimator.precisions


def estimate(
    counts: Mapping[str, float], estimator: Estimator, runtime: str, precision: str, threads: int = 1
) -> Estimate:
    """Return how long an inference with these counts takes on the estimator's device.

    `counts` are those of one inference by the plugin's names, `runtime` and `precision` those of the code that was
    counted. In the runtime and precisions of the fit the interval is the estimator's band; float code of another one
    has 30 % either way, and INT8 of another runtime none: it is not calibrated and not decisive. With 4 threads the
    published speed-ups widen the interval. Refused for another number of threads, InvalidMeasurement for counts that
    cannot be.
    """
    clock_hz = estimator.clock.value or math.nan
    faster = speedup(estimator, threads)
    s = cycles(counts, estimator.costs) / clock_hz
    fitted = f"{estimator.runtime}-fitted"
    if runtime == estimator.runtime and precision in estimator.precisions:
        band, basis, note = estimator.band, fitted, None
    elif precision == "int8":
        note = (
            f"not calibrated: the costs were fitted on {estimator.runtime}, whose INT8 kernels are others: decide "
            f"nothing by this figure alone; {MEASURE}"
        )
        return Estimate(s / faster.median, None, None, f"{fitted}, not calibrated for {runtime} int8", False, note)
    else:
        band, basis = max(TRANSFER_BAND, estimator.band), f"{fitted}, carried over to {runtime} {precision}"
        note = (
            f"carried over from {estimator.runtime} in {' and '.join(estimator.precisions)}: the band of {band:.0%} is "
            f"a convention that no board has confirmed, and speed-ups are {estimator.runtime}'s"
        )
    low_s, high_s = s * (1 - band) / faster.highest, s * (1 + band) / faster.lowest
    return Estimate(s / faster.median, low_s, high_s, basis, True, note)


def speedup(estimator: Estimator, threads: int) -> Speedup:
    """Return how many times as fast a number of threads is as one; Refused where nobody knows."""
    if threads == 1:
        return Speedup(lowest=1.0, median=1.0, highest=1.0)
    if threads == 4 and estimator.four_threads is not None:
        return estimator.four_threads
    known = "1 and 4 threads" if estimator.four_threads else "1 thread"
    raise Refused(
        f"no estimate for {threads} threads: times are known for {known}, and nothing in between is guessed; ask for "
        f"one of these, or {MEASURE}"
    )


def cycles(counts: Mapping[str, float], costs: Sequence[Cost]) -> float:
    """Return the cycles that counts cost; a name that is not there counts nothing.

    InvalidMeasurement for an unknown name, classes that do not add up to `insns`, or misses that nobody modelled.
    """
    for name, value in counts.items():
        if name not in COUNTS:
            raise InvalidMeasurement(f"unknown count `{name}`{near_misses(name, COUNTS)}")
        if not (math.isfinite(value) and value >= 0):
            raise InvalidMeasurement(f"count `{name}` is {value}; expected a number from 0 on")
    instructions = counts.get("insns", 0)
    if instructions == 0:
        raise InvalidMeasurement("no instruction was counted; did the run mark its inferences?")
    wanted = {name for cost in costs for name in cost.counts}
    classed = sum(counts.get(name, 0) for name in CLASSES)
    if "insns" not in wanted and not math.isclose(classed, instructions, rel_tol=1e-6):
        raise InvalidMeasurement(f"the classes hold {classed:.0f} of {instructions:.0f} instructions; count them all")
    if wanted & set(MISSES) and not counts.get("mem_access"):
        raise InvalidMeasurement("cache misses have a cost and were not counted; run the plugin with its cache model")
    return sum(cost.cycles * sum(counts.get(name, 0) for name in cost.counts) for cost in costs)


def candidates(seen: Sequence[Observation]) -> list[dict[str, tuple[str, ...]]]:
    """Return the groups that may be tried, those with L3 misses only where some were counted."""
    modelled = any(one.counts.get("l3_miss") for one in seen)
    caches = [one for one in CACHES if modelled or "L3 misses" not in one]
    return [{**instructions, **misses} for instructions in INSTRUCTIONS for misses in caches]


def fit(seen: Sequence[Observation], groups: Groups) -> tuple[Cost, ...]:
    """Return the cost of each group, none negative, with the least sum of squared relative errors.

    Minimizes sum_i (sum_g a_g n_ig / c_i - 1)^2 over a >= 0 (Lawson and Hanson, Solving Least Squares Problems, 1974).
    InvalidMeasurement where there are no more observations than groups.
    """
    from scipy.optimize import nnls

    if len(seen) <= len(groups):
        raise InvalidMeasurement(f"{len(seen)} times cannot fit {len(groups)} costs; measure more networks")
    rows = [[_sum(one, names) / one.cycles for names in groups.values()] for one in seen]
    found, _ = nnls(np.array(rows), np.ones(len(rows)))
    return tuple(
        Cost(name=name, counts=names, cycles=float(value))
        for (name, names), value in zip(groups.items(), found, strict=True)
    )


def leave_one_out(
    seen: Sequence[Observation],
    learn: Callable[[Sequence[Observation]], Sequence[Cost]],
    together: Callable[[Observation], Hashable] = lambda one: one.network,
) -> np.ndarray:
    """Return the cycles (one an observation) by costs learned from all those that are not `together` with it.

    By default every precision of a network is left out at once.
    """
    kept_out = [together(one) for one in seen]
    costs = {key: learn([one for one in seen if together(one) != key]) for key in dict.fromkeys(kept_out)}
    return np.array([cycles(one.counts, costs[key]) for one, key in zip(seen, kept_out, strict=True)])


def relative_errors(seen: Sequence[Observation], predicted: np.ndarray) -> np.ndarray:
    """Return by what share of the observed cycles each prediction is off: 0.1 says it is 10 % too high."""
    off: np.ndarray = predicted / np.array([one.cycles for one in seen]) - 1
    return off


def choose(seen: Sequence[Observation]) -> dict[str, tuple[str, ...]]:
    """Return the fewest groups whose error on networks left out lies within one standard error of the best.

    The rule of one standard error: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984.
    """
    scored = []
    for groups in candidates(seen):
        off = np.abs(relative_errors(seen, leave_one_out(seen, partial(fit, groups=groups))))
        scored.append((len(groups), float(np.mean(off)), float(np.std(off, ddof=1)) / math.sqrt(len(off)), groups))
    best = min(scored, key=lambda one: one[1])
    return min((one for one in scored if one[1] <= best[1] + best[2]), key=lambda one: one[:2])[3]


def learn_estimator(
    seen: Sequence[Observation], runtime: str, clock: Hertz, source: str, four_threads: Speedup | None
) -> Estimator:
    """Return the estimator that observations of one device give: groups chosen, costs fitted, errors held out."""
    groups = choose(seen)
    by_network = leave_one_out(seen, partial(fit, groups=groups))
    by_time = leave_one_out(seen, partial(fit, groups=groups), lambda one: (one.network, one.precision))
    rounded = [cost.model_copy(update={"cycles": float(f"{cost.cycles:.4g}")}) for cost in fit(seen, groups)]
    return Estimator(
        runtime=runtime,
        precisions=tuple(sorted({one.precision for one in seen})),
        clock=clock,
        costs=tuple(rounded),
        times=len(seen),
        networks=len({one.network for one in seen}),
        each_left_out=_errors(relative_errors(seen, by_time)),
        networks_left_out=_errors(relative_errors(seen, by_network)),
        band=_band(seen, by_network),
        four_threads=four_threads,
        source=source,
    )


def _band(seen: Sequence[Observation], predicted: np.ndarray) -> float:
    """Return the share of an estimate within which nine of ten left-out times lie; of fewer than nine, all.

    The k-th smallest distance of n, k = ceil(0.9 (n + 1)), as in split conformal prediction (Vovk et al., 2005).
    """
    distances = np.sort(np.abs(np.array([one.cycles for one in seen]) / predicted - 1))
    return round(float(distances[min(len(seen), math.ceil(COVERAGE * (len(seen) + 1))) - 1]), 3)


def _errors(off: np.ndarray) -> Errors:
    return Errors(mean=round(float(np.mean(np.abs(off))), 3), worst=round(float(np.max(np.abs(off))), 3))


def _sum(one: Observation, names: Sequence[str]) -> float:
    return sum(one.counts.get(name, 0) for name in names)


@dataclass(frozen=True)
class EnergyEstimate:
    """What an inference draws at most and at least, in millijoules, on a device nobody metered; None: unknown.

    Gross is the whole board, net what lies above rest: between nothing and `net_high_mj`. `unknown` holds why a figure
    is None, `basis` what the others rest on.
    """

    gross_low_mj: float | None
    gross_high_mj: float | None
    net_high_mj: float | None
    basis: str
    unknown: tuple[str, ...]
    kind: Literal["estimated"] = "estimated"

    @property
    def known(self) -> bool:
        """Whether any figure is known."""
        return any(one is not None for one in (self.gross_low_mj, self.gross_high_mj, self.net_high_mj))


def estimate_energy(time: Estimate, power: BoardPower) -> EnergyEstimate:
    """Return the bounds of an inference's energy: the board's powers times the ends of the estimated time.

    A profile's `active` is the wall power while Linpack keeps every core busy. An inference is taken to draw less,
    on one thread much less, so it bounds the energy from above; `idle` bounds it from below: gross lies between idle
    times the shortest and active times the longest time, net between nothing and (active - idle) times the longest. No
    power is assumed where the profile holds none.
    """
    idle_w, active_w = power.idle.value, power.active.value
    low_s, high_s = time.low_s, time.high_s
    powers = (("idle", power.idle), ("active", power.active))
    unknown = [f"power.{name} is not measured" for name, one in powers if one.value is None]
    if low_s is None or high_s is None:
        unknown.append("the time has no interval")
    above_w = None if idle_w is None or active_w is None else active_w - idle_w
    known = [f"{one.shown} {name} ({one.source})" for name, one in powers if one.value is not None]
    return EnergyEstimate(
        gross_low_mj=_millijoules(idle_w, low_s),
        gross_high_mj=_millijoules(active_w, high_s),
        net_high_mj=_millijoules(above_w, high_s),
        basis="; ".join([time.basis, *known]),
        unknown=tuple(unknown),
    )


def _millijoules(power_w: float | None, time_s: float | None) -> float | None:
    return None if power_w is None or time_s is None else 1e3 * power_w * time_s
