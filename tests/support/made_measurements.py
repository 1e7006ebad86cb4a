"""Made-up measurements, for tests of what reads measurements; nothing in here was ever timed."""

from dataclasses import replace

import numpy as np

from edgeslim.measure.measurement import Caution, Energy, Measurement, Place, Power, ProcessRun

PLACE = Place(
    target="ssh://pi@board",
    name="Raspberry Pi 4 Model B Rev 1.5",
    architecture="aarch64",
    cpu_model="CPU part 0xd08",
    kernel="6.6.31",
    governor="performance",
    boot_id="first",
)


def process(*samples_s, **changes):
    """One process with these raw times; its window is as long as one stream needs for them."""
    run = ProcessRun(
        init_s=0.2,
        first_s=3 * max(samples_s, default=1.0),
        samples_s=samples_s,
        peak_rss_bytes=50_000_000,
        window_s=sum(samples_s) or 1.0,
        runtime_rss_bytes=20_000_000,
        arena_bytes=None,
    )
    return replace(run, **changes)


def made_of(*processes, **changes):
    """A measurement of these processes."""
    facts = {
        "label": "int8",
        "runtime": "onnxruntime",
        "runtime_version": "1.32.0",
        "agent": "c",
        "library": "onnxruntime 1.32.0, brought along",
        "model": "int8.onnx",
        "model_sha256": "ab" * 32,
        "precision_requested": "int8",
        "precision_actual": "uint8",
        "executors": {"CPUExecutionProvider": 12},
        "scenario": "single-stream",
        "threads": 1,
        "streams": 1,
        "affinity": None,
        "memory_limit_bytes": None,
        "kind": "measured",
        "place": PLACE,
        "processes": processes,
        "seen": (),
        "power": None,
    }
    return Measurement(**{**facts, **changes})


def measured(medians_s, label="int8", *, times=(0.9, 1.0, 1.2), **changes):
    """A measurement whose processes have these medians; `times` are each one's raw times over its median."""
    runs = (process(*(float(median * time) for time in times)) for median in medians_s)
    return made_of(*runs, label=label, **changes)


def metered(net_mj, meter="rapl", scope="CPU package", idle_w=1.0):
    """Powers of windows with these energies above idle, for inferences of 10 ms."""
    windows = tuple(Energy(idle_w + 0.1 * mj, idle_w, mj + 10 * idle_w, float(mj), 100) for mj in net_mj)
    return Power(meter, scope, windows)


def noise(seed, spread=0.02, processes=9):
    """Factors around one, lognormal."""
    return np.exp(np.random.default_rng(seed).normal(0, spread, processes))


def doubt(kind):
    """A caution of a kind."""
    return Caution(kind, f"it looked {kind}", "look again")
