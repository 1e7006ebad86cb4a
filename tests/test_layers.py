"""Who may import whom: only from an earlier layer; a layer's files do not import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from edgeslim.bundled import bundled
from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "edgeslim"
LAYERS = (
    "errors progress trial",
    "quality units bundled formats preprocessing default_model probes installed vela_report onnx_layers",
    "machine half_plan strict_yaml graph numerics store probes.* agent_session compiling",
    "npu_limits sourced records probe_files operator_tables equivalence",
    "emulation_facts overlay",
    "device_profile measurement simulation manifest_parts fake_quant half moments pruning.labels probes.worker "
    "agent_program memory_limit",
    "endings vela_config manifest legalize estimate emulated_tree",
    "legalize.*",
    "ssh_connection virtual_machine",
    "model pruning.blocks pruning.channels reconstruct runtime_libraries comparison conditions",
    "data recipe rounding pruning.importance pruning.sizes targets meters",
    "context pruning.sensitivity targets.* meters.* energy",
    "export.job export.onnx_half pruning pruning.allocation deployment metering emulated_inference",
    "export checks on_device npu_rules",
    "artifact harness ledger file_values file_parting class_order vela micro emulator",
    "operator_times operator_estimates precision pruning.candidates",
    "pruning.workbench",
    "compress verification inspection proof",
    "sensitivity_report benchmark",
    "produce judge probing emulation operator_counts",
    "decide error_depth npu gpu device_times fitting calibration",
    "npu_papers gpu_papers",
    "handover",
    "pipeline",
    "doctor show_measurements show_compiled show_gpu show_emulation show_fits",
    "show plots show_sensitivity",
    "latency_plot",
    "cli_common",
    "cli_emulator",
    "cli_fits",
    "cli_measure cli_calibrate",
    "cli",
)
# The package itself hands out the library's functions; run.py is copied into artifacts and runs without edgeslim.
OUTSIDE = ("__init__", "__main__", "artifact_files.run", "artifact_files.tensorrt.build_engine")
ON_THE_DEVICE = [*sorted(bundled("runtimes").rglob("*.py")), PACKAGE / "artifact_files" / "run.py"]


def module_of(file: Path) -> str:
    """Return a file's dotted name inside the package, that of the folder for an `__init__.py`."""
    name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def layer_of(module: str) -> int:
    """Return the layer of the first of `a.b`, `a.*` (for a.b) and `a` that the table names."""
    for name in (module, f"{module.partition('.')[0]}.*" if "." in module else "", module.partition(".")[0]):
        for number, names in enumerate(LAYERS):
            if name in names.split():
                return number
    raise AssertionError(f"edgeslim/{module.replace('.', '/')}.py has no layer; give it one in LAYERS")


def imports_of(file: Path) -> set[str]:
    """Return the modules of edgeslim that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "edgeslim":
            # `from edgeslim import units` names modules, `from edgeslim.errors import BadInput` what is in one.
            names = [alias.name for alias in node.names] if node.module == "edgeslim" else [str(node.module)]
            found.update(name.removeprefix("edgeslim.") for name in names)
        elif isinstance(node, ast.Import):
            found.update(a.name.removeprefix("edgeslim.") for a in node.names if a.name.startswith("edgeslim."))
    return found


MODULES = {module_of(f): f for f in sorted(PACKAGE.rglob("*.py")) if module_of(f) not in OUTSIDE}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_earlier_layers(module: str) -> None:
    own = layer_of(module)
    later = sorted(name for name in imports_of(MODULES[module]) if layer_of(name) >= own)
    assert not later, f"edgeslim.{module} imports {', '.join(later)}, not in an earlier layer"


@pytest.mark.parametrize("module", ["device_profile", "artifact", "manifest", "doctor", "cli"])
def test_a_light_module_loads_no_heavy_library(module: str) -> None:
    heavy = {"torch", "openvino", "onnx", "onnxruntime", "ai_edge_litert", "litert_torch", "torchvision"}
    script = f"import sys, edgeslim.{module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "", f"edgeslim.{module} loads {done.stdout.strip()}"


@pytest.mark.parametrize("file", ON_THE_DEVICE, ids=lambda file: file.name)
def test_what_runs_on_the_device_imports_nothing_of_edgeslim(file: Path) -> None:
    assert not imports_of(file), f"{file.name} imports edgeslim: it must run where edgeslim is not installed"
