"""An artifact's summary, as a build ends with it, as `edgeslim show` repeats it and as its documents hold it."""

from collections.abc import Sequence

from edgeslim.artifact.archive import MEASUREMENTS
from edgeslim.artifact.manifest import IntegerLayers, Manifest, ModelFile
from edgeslim.backends import backend_of_artifact
from edgeslim.measure.measurement import Measurement
from edgeslim.pipeline.documents.times import Times, latency, place, time_lines
from edgeslim.table import Table
from edgeslim.tasks.task import with_interval
from edgeslim.units import show_bytes, show_memory

TIMES_PAGE = f"{MEASUREMENTS}/README.md"
UNTIMED = (
    "they differ in every run, so no archive holds them; in the folder that the build wrote they are in "
    f"{TIMES_PAGE}, and `edgeslim bench` takes them"
)
BUILT_HERE = "the machine that built it"
OTHERWISE = {  # what a layer is that is not INT8
    "fp32": "kept in float",
    "fp16": "in float with fp16 weights",
    "w8": "in float with int8 weights",
    "dynamic": "with int8 weights, what it reads ranged at run time where the runtime can",
}


def summary(manifest: Manifest, times: Times | None, untimed: str = UNTIMED) -> Table:
    """Return what a build made: each file before (fp32) and after (INT8), then times, data, costs and warnings.

    `untimed` says why there are no times, where there are none.
    """
    models = sorted(manifest.models, key=lambda m: (m.format, ("fp32", "fp16", "int8").index(m.precision)))
    metric = models[0].quality.metric
    kind = metric if manifest.data.labelled else f"{metric} as fp32"
    quality = (f"{kind}, 95 % interval", "agrees with fp32")
    columns: tuple[str, ...] = ("format", "precision", "size", *quality, "int8 layers")
    rows: list[tuple[str, ...]] = [_row(model) for model in models]
    if times is not None:
        columns = (*columns, "median latency*", "peak RSS*")
        taken = {one.label: one for one in times.measured}
        rows = [(*row, *_timed(taken.get(model.label))) for row, model in zip(rows, models, strict=True)]
    return Table(
        f"{manifest.artifact.name} {manifest.artifact.version}: {manifest.status}",
        columns,
        tuple(rows),
        (
            *_times(manifest, times, untimed),
            *_data(manifest),
            *_network(manifest),
            *backend_of_artifact(manifest).lines(manifest),
            *_not_int8(models),
            *manifest.in_float,
            f"primary: {manifest.primary or 'none'}",
            *(f"rejected: {reason}" for reason in manifest.reasons),
            *_warnings(manifest, times),
        ),
        whole=frozenset(columns) - {columns[3], "median latency*"},  # the interval and the latency, which may break
        bold=frozenset(row for row, model in enumerate(models) if model.path == manifest.primary),
        ends=frozenset(row for row, model in enumerate(models) if model.precision == "int8"),
    )


def _row(model: ModelFile) -> tuple[str, ...]:
    """Return what is known of one file."""
    quality, layers = model.quality, model.integer_layers
    return (
        model.format,
        model.precision,
        show_bytes(model.bytes),
        with_interval(quality.value, quality.unit, quality.ci95),
        "" if quality.agreement_with_fp32_pct is None else f"{quality.agreement_with_fp32_pct:.2f} %",
        _proven(layers) if model.precision == "int8" else "",
    )


def _proven(layers: IntegerLayers | None) -> str:
    """Return how many of all layers a runtime showed to run on integers."""
    return "not seen" if layers is None else f"{layers.proven} of {layers.layers}"


def _not_int8(models: Sequence[ModelFile]) -> list[str]:
    """Return a line that names every layer that is not INT8, with what it is and why; none where all are."""
    others = next((model.integer_layers.others for model in models if model.integer_layers), ())
    kinds: dict[tuple[str, str], list[str]] = {}
    for one in others:
        kinds.setdefault((one.precision, one.why), []).append(one.layer)
    told = [f"{', '.join(names)} {OTHERWISE[kind]} ({why})" for (kind, why), names in kinds.items()]
    return [f"layers that are not int8: {'; '.join(told)}"] if told else []


def _timed(one: Measurement | None) -> tuple[str, str]:
    return ("not measured",) * 2 if one is None else (latency(one), show_memory(one.peak_rss_bytes))


def _times(manifest: Manifest, times: Times | None, untimed: str) -> list[str]:
    """Return where times were taken, what the device would take, and why there is no figure where there is none."""
    device = manifest.compatible
    if times is None:
        return [f"no times: {untimed}"]
    where = [place(times.measured, device.device, here=times.here, local=BUILT_HERE)] if times.measured else []
    return [*(f"* measured on {one}" for one in where), *time_lines(times.device, device.title or device.device)]


def _data(manifest: Manifest) -> list[str]:
    data = manifest.data
    used = f"{data.calibration} images calibrate, {data.selection} select, {data.evaluation} judge"
    nothing = "; SYNTHETIC: they say nothing about accuracy, and the accuracy gate was not applied"
    return [
        f"data: {data.source}: {used}{nothing if data.synthetic else ''}",
        *([] if data.how_read is None else [data.how_read]),
    ]


def _network(manifest: Manifest) -> list[str]:
    """Return what became of the network, what that costs, and how far the formats answer alike."""
    model, agreement = manifest.model, manifest.agreement_between_formats_pct
    return [
        f"model: {_change(model.original_parameters, model.parameters)} parameters, "
        f"{_change(model.original_macs, model.macs)} MACs for an image",
        *([] if manifest.costs is None else [manifest.costs]),
        *([] if manifest.training is None else [f"training: {manifest.training}"]),
        *(f"{pair} agree on {share:.2f} % of the images" for pair, share in agreement.items()),
    ]


def _change(before: int, after: int) -> str:
    return f"{after:,}" if before == after else f"{before:,} to {after:,}"


def _warnings(manifest: Manifest, times: Times | None) -> list[str]:
    found = [*warnings_of(manifest, times)]
    if manifest.warnings is None:
        found.append("what else the build warned of is not known: this artifact is of before that was kept")
    return [f"warning: {one}" for one in found]


def warnings_of(manifest: Manifest, times: Times | None) -> tuple[str, ...]:
    """Return what a build warned of, as far as it is known."""
    kept = manifest.warnings
    if kept is None:
        kept = () if manifest.not_judged is None else (manifest.not_judged,)
    return (*kept, *(() if times is None else times.warnings))
