"""What a person reads about a GPU build: which operators stay fp32, how fp16 was checked, how engines are built."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from edgeslim.artifact.manifest import Manifest
from edgeslim.artifact.sections import OperatorPrecision
from edgeslim.export import stored_precisions


@dataclass(frozen=True)
class Fp16Row:
    """One operator of an fp16 file as planned; `held` is in what the file stores its weight, None without one."""

    planned: OperatorPrecision
    held: str | None

    @property
    def as_planned(self) -> bool:
        """Whether the file stores the weight as it was planned."""
        return self.held in (None, self.planned.precision)


def gpu_lines(manifest: Manifest) -> list[str]:
    """Return the summary's lines about fp16 and engines, none where the device has no GPU."""
    made = manifest.gpu
    if made is None:
        return []
    kept = [one for one in made.operators if one.precision == "fp32"]
    check, total = made.check, len(made.operators)
    return [
        f"fp16: {total - len(kept)} of {total} operators, input and output {made.io}",
        *(f"fp32: {one.operator} `{one.name}`: {one.reason}" for one in kept),
        f"agrees with itself in fp32 on {check.simulated_pct:.2f} % of {check.images} images in fp16 (simulated), on "
        f"{check.bf16_simulated_pct:.2f} % all in bf16 (simulated), on {check.file_pct:.2f} % as the file in ONNX "
        "Runtime",
        f"numerics: {made.checked_on}; no time was measured",
        f"on the device: python3 {made.builder} (TensorRT {made.min_tensorrt_version} or newer); ONNX Runtime there: "
        f"{made.provider}, {', '.join(f'{key}={value}' for key, value in made.session_entries.items())}; "
        f"edgeslim's agent: {' '.join(made.agent_arguments)}",
    ]


def fp16_table(rows: Sequence[Fp16Row]) -> RenderableType:
    """Return what every operator of a GPU's fp16 file runs in: planned, and as the file stores its weight."""
    table = Table(title="half precision: SQNR in dB of each operator alone, simulated", title_justify="left")
    for column in ("operator", "", "planned", "weight held in", "peak", "fp16", "bf16", "reason"):
        table.add_column(column, overflow="fold")
    for row in rows:
        one = row.planned
        table.add_row(
            one.name, one.operator, one.precision, row.held or "", f"{one.peak:.4g}", f"{one.sqnr_db:.1f}",
            f"{one.bf16_sqnr_db:.1f}", one.reason or "" if row.as_planned else f"DIFFERS; {one.reason or ''}",
        )  # fmt: skip
    return table


def fp16_rows(manifest: Manifest, folder: Path) -> list[Fp16Row]:
    """Join the planned precisions with those in which the fp16 file stores the weights."""
    if manifest.gpu is None:
        return []
    file = next(model.path for model in manifest.models if model.precision == "fp16")
    held = stored_precisions(folder / file, [one.weight for one in manifest.gpu.operators if one.weight])
    return [Fp16Row(one, held.get(one.weight or "")) for one in manifest.gpu.operators]
