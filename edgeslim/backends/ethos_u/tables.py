"""What a person reads about a file compiled for an NPU: where its operators run, and what the compiler simulates."""

from edgeslim.artifact.archive import MEASUREMENTS
from edgeslim.artifact.manifest import Manifest
from edgeslim.artifact.sections import CompiledFile, ReferenceKernels
from edgeslim.backends.ethos_u.simulation import FILE, Simulation
from edgeslim.table import Table
from edgeslim.units import show_bytes, show_memory, show_seconds


def compiled_lines(manifest: Manifest) -> list[str]:
    """Return the summary's lines about the compiled file, none where there is none."""
    made = manifest.accelerator
    if not isinstance(made, CompiledFile):
        return []
    told, on_npu = made.simulated, sum(made.npu_operators.values())
    kinds = ", ".join(f"{count} {name}" for name, count in made.npu_operators.items())
    return [
        f"compiled: {made.path}, {show_bytes(made.bytes)}, by {made.compiler} {made.compiler_version} for "
        f"{made.accelerator_config}, {made.system_config}, {made.memory_mode}, goal {made.goal}",
        f"NPU: {on_npu} of {on_npu + len(made.cpu_operators)} operators ({made.npu_pct:.1f} %): {kinds or 'none'}",
        *(f"CPU: {one.operator} `{one.name}`: {one.reason}; cure: {one.cure}" for one in made.cpu_operators),
        f"simulated, not measured: {show_seconds(told.inference_s)} an inference, {told.cycles:,} cycles, SRAM "
        f"{show_memory(told.sram_bytes)}, flash {show_memory(told.flash_bytes)}, DRAM {show_memory(told.dram_bytes)}; "
        f"moved: SRAM {show_bytes(told.sram_moved_bytes)}, flash {show_bytes(told.flash_moved_bytes)}, DRAM "
        f"{show_bytes(told.dram_moved_bytes)}",
        f"known error of the simulation: {told.known_error}; all goals: {MEASUREMENTS}/{FILE}",
        *(_reference(model.reference_kernels) for model in manifest.models if model.reference_kernels is not None),
    ]


def untimed_lines(manifest: Manifest) -> list[str]:
    """Return what a bench must say of a compiled file, which it cannot time; none where there is none."""
    made = manifest.accelerator
    if not isinstance(made, CompiledFile):
        return []
    return [f"{made.path} runs on an NPU and was not timed; what is simulated of it: {MEASUREMENTS}/{FILE}"]


def simulation_table(found: Simulation) -> Table:
    """Return what the compiler simulates for each goal; the star marks the file that was kept."""
    figures = ("an inference", "cycles", "SRAM", "flash", "DRAM", "SRAM moved", "flash moved", "DRAM moved")
    rows = []
    for one in found.goals:
        held = (one.sram_bytes, one.flash_bytes, one.dram_bytes)
        moved = (one.sram_moved_bytes, one.flash_moved_bytes, one.dram_moved_bytes)
        name = f"{one.goal}{' *' if one.kept else ''}"
        sizes = (*map(show_memory, held), *map(show_bytes, moved))
        rows.append((name, show_seconds(one.inference_s), f"{one.cycles:,}", *sizes))
    return Table(
        title=f"{found.model}: simulated by {found.compiler}, not measured (* kept)",
        columns=("goal", *figures),
        rows=tuple(rows),
        notes=(
            f"{found.compiler} {found.compiler_version}, {found.accelerator_config}, {found.system_config}, "
            f"{found.memory_mode}; kept in {MEASUREMENTS}/{FILE}",
            f"known error of the simulation: {found.known_error}",
        ),
        right=frozenset(figures),
        whole=frozenset({"goal"}),
    )


def _reference(found: ReferenceKernels) -> str:
    return (
        f"tflite-micro's reference kernels: {found.equal_pct:.2f} % of the int8 outputs equal LiteRT's, largest "
        f"difference {found.max_lsb} step(s), {found.images} images"
    )
