"""What a person reads about a GPU build: which operators stay fp32, how fp16 was checked, how engines are built."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeslim.artifact.manifest import Manifest
from edgeslim.artifact.sections import GpuFiles, OperatorPrecision
from edgeslim.table import Table


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
    made = manifest.accelerator
    if not isinstance(made, GpuFiles):
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


def fp16_table(rows: Sequence[Fp16Row]) -> Table:
    """Return what every operator of a GPU's fp16 file runs in: planned, and as the file stores its weight."""
    return Table(
        title="half precision: SQNR in dB of each operator alone, simulated",
        columns=("name", "operator", "planned", "weight held in", "peak", "fp16", "bf16", "reason"),
        rows=tuple(
            (
                row.planned.name,
                row.planned.operator,
                row.planned.precision,
                row.held or "",
                f"{row.planned.peak:.4g}",
                f"{row.planned.sqnr_db:.1f}",
                f"{row.planned.bf16_sqnr_db:.1f}",
                row.planned.reason or "" if row.as_planned else f"DIFFERS; {row.planned.reason or ''}",
            )
            for row in rows
        ),
    )


def fp16_rows(manifest: Manifest, folder: Path) -> list[Fp16Row]:
    """Join the planned precisions with those in which the fp16 file stores the weights."""
    from edgeslim.export import stored_precisions

    made = manifest.accelerator
    if not isinstance(made, GpuFiles):
        return []
    file = next(model.path for model in manifest.models if model.precision == "fp16")
    held = stored_precisions(folder / file, [one.weight for one in made.operators if one.weight])
    return [Fp16Row(one, held.get(one.weight or "")) for one in made.operators]
