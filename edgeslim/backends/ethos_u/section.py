"""What an artifact holds of a compiled network: the file, Vela's configuration and reports, and what they say."""

import hashlib
from dataclasses import asdict
from pathlib import Path

from edgeslim.artifact.sections import CompiledFile, CpuOperator, Simulated
from edgeslim.backends.ethos_u.compile import KNOWN_ERROR, PACKAGE, VERSION
from edgeslim.backends.ethos_u.compiled import NpuFile
from edgeslim.backends.ethos_u.simulation import Figures, Simulation
from edgeslim.backends.ethos_u.vela_config import CONFIG, config_sha256
from edgeslim.backends.ethos_u.vela_report import NOT_TOLD, counts

FOLDER = "compiler"
CONFIG_PATH = f"{FOLDER}/{CONFIG.name}"
LAYERS, SUMMARY, LOG = (f"{FOLDER}/{name}" for name in ("layers.csv", "summary.csv", "vela.log"))


def compiled_path(npu: NpuFile) -> str:
    """Return where the compiled file lies in the artifact."""
    return f"models/{npu.best.file.name}"


def files_of(npu: NpuFile) -> dict[str, Path]:
    """Return the compiled file, the configuration and the reports, by their paths in the artifact."""
    best = npu.best
    return {
        compiled_path(npu): best.file,
        CONFIG_PATH: CONFIG,
        LAYERS: best.layers,
        SUMMARY: best.summary,
        LOG: best.log,
    }


def compiled_file(npu: NpuFile, made_from: str) -> CompiledFile:
    """Return the manifest's entry; `made_from` is the path of the plain file in the artifact."""
    best, compiler = npu.best, npu.compiler
    return CompiledFile(
        path=compiled_path(npu),
        made_from=made_from,
        bytes=best.file.stat().st_size,
        compiler=PACKAGE,
        compiler_version=VERSION,
        accelerator_config=compiler.accelerator_config,
        system_config=compiler.system_config,
        memory_mode=str(compiler.memory_mode),
        config=CONFIG_PATH,
        config_sha256=config_sha256(),
        goal=best.goal,
        npu_operators=counts(best.placement.on_npu),
        cpu_operators=tuple(
            CpuOperator(name=one.name, operator=one.original, reason=one.reason or NOT_TOLD, cure=one.cure)
            for one in best.placement.on_cpu
        ),
        npu_pct=best.placement.npu_pct,
        simulated=Simulated(**asdict(best.estimate), known_error=KNOWN_ERROR),
        reports=(LAYERS, SUMMARY, LOG),
    )


def simulation(npu: NpuFile, device: str) -> Simulation:
    """Return what Vela simulates for each of its goals, as it is kept beside the measurements."""
    best, compiler = npu.best, npu.compiler
    return Simulation(
        label=f"tflite int8 on {compiler.accelerator_config}",
        device=device,
        model=compiled_path(npu),
        model_sha256=hashlib.sha256(best.file.read_bytes()).hexdigest(),
        compiler=PACKAGE,
        compiler_version=VERSION,
        accelerator_config=compiler.accelerator_config,
        system_config=compiler.system_config,
        memory_mode=str(compiler.memory_mode),
        config_sha256=config_sha256(),
        goals=tuple(Figures(goal=one.goal, kept=one is best, **asdict(one.estimate)) for one in (best, *npu.others)),
        known_error=KNOWN_ERROR,
    )
