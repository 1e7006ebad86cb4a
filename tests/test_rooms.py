"""Who may import whom: the rooms of the package, no circle inside a room, and nothing heavy where it must be light."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from edgeslim.resources import bundled
from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "edgeslim"
# Plain files; all may use them.
GROUND = (
    "errors units progress strict_yaml formats recipe resources cache grid table bounds with_parent work_folders "
    "sealed threads kept readable"
)
# What a room may import: these rooms, what those may import in turn, itself and the ground.
MAY_IMPORT = {
    "devices": "",
    "tasks": "",
    "deploy": "devices",
    "model": "devices tasks",
    "artifact": "deploy tasks",
    "compress": "model",
    "export": "model artifact deploy",
    "measure": "artifact deploy model.operator",
    "emulation": "measure",
    "backends": "compress export measure emulation",
    "pipeline": "backends",
    "report": "pipeline",
    "cli": "report",
}
MOST_FILES = 13  # of a folder: with more a newcomer no longer finds what is there
HEAVY = {"torch", "openvino", "onnx", "onnxruntime", "ai_edge_litert", "litert_torch", "torchvision"}
# run.py and build_engine.py are copied into artifacts and run without edgeslim, as the agent does on a device.
ON_THE_DEVICE = [
    *sorted(bundled("runtimes").rglob("*.py")),
    PACKAGE / "artifact" / "carried" / "run.py",
    PACKAGE / "backends" / "tensorrt" / "build_engine.py",
]


def module_of(file: Path) -> str:
    """Return a file's dotted name inside the package, that of the folder for an `__init__.py`."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    module_of(file): file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or file.name[0] != "_"
}


LIGHT = [
    *(name for name in MODULES if name.partition(".")[0] in ("devices", "cli")),
    *("cache", "tasks", "artifact.archive", "artifact.manifest", "backends.cpu"),
    *("backends.ethos_u.build", "backends.tensorrt.build", "report.doctor"),
]


def room_of(module: str) -> str:
    room = module.partition(".")[0]
    return "ground" if room in GROUND.split() else room


def allowed(room: str) -> set[str]:
    """Return the rooms and modules that a room may import."""
    found: set[str] = set()
    for name in MAY_IMPORT[room].split():
        found |= {name} | (allowed(name) if name in MAY_IMPORT else set())
    return found


def imports_of(file: Path) -> set[str]:
    """Return the modules of edgeslim that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "edgeslim":
            # `from edgeslim.deploy import x` may name a module, `from edgeslim.errors import BadInput` what is in one.
            inside = str(node.module).removeprefix("edgeslim").removeprefix(".")
            for alias in node.names:
                full = f"{inside}.{alias.name}".removeprefix(".")
                found.add(full if full in MODULES else inside)
        elif isinstance(node, ast.Import):
            found.update(a.name.removeprefix("edgeslim.") for a in node.names if a.name.startswith("edgeslim."))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    room = room_of(module)
    if room == "ground":
        strangers = [name for name in imports_of(MODULES[module]) if room_of(name) != "ground"]
    else:
        assert room in MAY_IMPORT, (
            f"edgeslim/{room} is no room; give it one in MAY_IMPORT, or make it part of the ground"
        )
        may = {*allowed(room), room, "ground"}
        strangers = [name for name in imports_of(MODULES[module]) if not {name, room_of(name)} & may]
    assert not strangers, f"edgeslim.{module} imports {', '.join(sorted(strangers))}, which {room} may not"


@pytest.mark.parametrize("room", ["ground", *MAY_IMPORT])
def test_no_circle_inside_a_room(room: str) -> None:
    own = {
        module: {name for name in imports_of(file) if room_of(name) == room and name != module}
        for module, file in MODULES.items()
        if room_of(module) == room
    }
    try:
        graphlib.TopologicalSorter(own).prepare()
    except graphlib.CycleError as circle:
        pytest.fail(f"a circle: {' <- '.join(circle.args[1])}")


@pytest.mark.parametrize("folder", sorted({file.parent for file in MODULES.values()} - {PACKAGE}), ids=module_of)
def test_a_folder_stays_small_enough_to_find_things(folder: Path) -> None:
    files = [file.name for file in folder.glob("[!_]*.py")]
    assert len(files) <= MOST_FILES, f"{len(files)} files in {folder.name}: {', '.join(sorted(files))}"


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_no_heavy_library(module: str) -> None:
    script = f"import sys, edgeslim.{module}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "", f"edgeslim.{module} loads {done.stdout.strip()}"


@pytest.mark.parametrize("file", ON_THE_DEVICE, ids=lambda file: file.name)
def test_what_runs_on_the_device_imports_nothing_of_edgeslim(file: Path) -> None:
    assert not imports_of(file), f"{file.name} imports edgeslim: it must run where edgeslim is not installed"
