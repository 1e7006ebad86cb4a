"""What the C agent loads is whole, says what it needs of the device, and is fetched whole or not at all."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgeslim.deploy.libraries import ARCHITECTURES, PACKAGES, STANDARD_PLACES, libraries
from edgeslim.errors import BadInput, MissingPackage, Recomputed, ToolFailed
from edgeslim.sealed import SEAL
from tests.support.installed import skip_without

HERE = platform.machine()
(ELSEWHERE,) = {"x86_64": ["aarch64"], "aarch64": ["x86_64"]}[HERE]
ELF_MACHINES = {"x86_64": 62, "aarch64": 183}

LOAD = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
"""
# Each ends with the question whether the runtime itself, not only the loader, is content.
CALLS = {
    "onnxruntime": """
library.OrtGetApiBase.restype = ctypes.POINTER(ctypes.c_void_p * 2)
assert ctypes.CFUNCTYPE(ctypes.c_char_p)(library.OrtGetApiBase().contents[1])()
""",
    "litert": """
assert library.LiteRtCreateEnvironment(0, None, ctypes.byref(ctypes.c_void_p())) == 0
""",
    "openvino": """
made = {name: ctypes.c_void_p() for name in ("core", "model", "compiled", "request")}
core, model, compiled, request = made.values()
assert library.ov_core_create(ctypes.byref(core)) == 0
assert library.ov_core_read_model(core, sys.argv[2].encode(), None, ctypes.byref(model)) == 0
assert library.ov_core_compile_model(core, model, b"CPU", ctypes.c_size_t(0), ctypes.byref(compiled)) == 0
assert library.ov_compiled_model_create_infer_request(compiled, ctypes.byref(request)) == 0
assert library.ov_infer_request_infer(request) == 0
""",
}
LOADED = """
paths = {line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
print(*(path for path in paths if ".so" in path))
"""
OF_A_RUNTIME = re.compile("onnxruntime|LiteRt|openvino|tbb|hwloc")


def installed_version(runtime):
    return importlib.metadata.version(PACKAGES[runtime])


def run_python(code, *arguments):
    """Run code in a process that finds no package and no library but those it is told of."""
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A store into which LiteRT's library for the other architecture was fetched, and that library."""
    skip_without("litert")
    store = tmp_path_factory.mktemp("store")
    try:
        return store, libraries("litert", ELSEWHERE, store)
    except ToolFailed as error:
        pytest.skip(f"no package index can be reached; connect this machine to one: {error}")


@pytest.fixture
def no_index(monkeypatch):
    """Let pip find nothing."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.mark.parametrize("runtime", PACKAGES)
def test_the_files_alone_in_a_folder_are_all_that_the_runtime_needs(runtime, tiny, tmp_path):
    model = tiny(runtime).models["fp32"]
    here = libraries(runtime, HERE)
    assert here.main in here.files
    assert len({file.parent for file in here.files}) == 1, "they do not lie side by side"
    for file in here.files:
        shutil.copy(file, tmp_path)
    done = run_python(LOAD + CALLS[runtime] + LOADED, tmp_path / here.main.name, model)
    assert done.returncode == 0, done.stderr
    loaded = {Path(path) for path in done.stdout.split() if OF_A_RUNTIME.search(Path(path).name)}
    assert tmp_path / here.main.name in loaded
    assert {path.parent for path in loaded} == {tmp_path}, "it loaded a file that does not travel"


def test_of_openvino_only_what_a_cpu_needs_travels():
    skip_without("openvino")
    here = libraries("openvino", HERE)
    installed = sum(file.stat().st_size for file in here.main.parent.glob("*.so*"))
    travelling = sum(file.stat().st_size for file in here.files)
    assert travelling < 0.7 * installed, "graphics, neural processors or other formats travel too"
    assert not [file.name for file in here.files if re.search("gpu|npu|onnx|tensorflow|pytorch", file.name)]


@pytest.mark.parametrize("runtime", PACKAGES)
def test_the_version_is_that_of_the_package_and_the_needs_are_the_highest_in_any_file(runtime):
    skip_without(runtime)
    here = libraries(runtime, HERE)
    assert here.version == installed_version(runtime)
    for family, needed in ((b"GLIBC", here.glibc), (b"GLIBCXX", here.libstdcxx)):
        name = re.compile(rb"\0%s_(\d+(?:\.\d+)+)\0" % family)
        content = [file.read_bytes().replace(b"\0", b"\0\0") for file in here.files]
        named = [found[1].decode() for one in content for found in name.finditer(one)]
        assert needed == max(named, key=numbers), f"another {family.decode()} is named in the files"


def numbers(version):
    return [int(part) for part in version.split(".")]


def test_another_architecture_gets_the_same_version_made_for_it(fetched):
    store, there = fetched
    assert (there.version, there.architecture) == (installed_version("litert"), ELSEWHERE)
    assert there.files == (there.main,)
    assert int.from_bytes(there.main.read_bytes()[18:20], "little") == ELF_MACHINES[ELSEWHERE], "it is for another CPU"
    assert numbers(there.glibc) >= [2, 17], "no such library runs on an older one"
    assert sorted(file for file in store.rglob("*") if file.is_file()) == [there.main, there.main.with_name(SEAL)], (
        "more is kept than what is needed"
    )


def test_what_was_fetched_once_needs_no_index_again(fetched, no_index):
    store, there = fetched
    assert libraries("litert", ELSEWHERE, store) == there


def test_a_failed_fetch_ends_with_pips_words_and_leaves_nothing_half_written(no_index, tmp_path):
    skip_without("litert")
    with pytest.raises(
        ToolFailed, match=r"ai-edge-litert==[\d.]+ for \w+ cannot be fetched; pip says:\n(.*\n)*ERROR: "
    ):
        libraries("litert", ELSEWHERE, tmp_path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not list(tmp_path.glob("runtime_libraries/*")), "the next call would take this for what was fetched"


def test_a_wheel_without_the_library_is_refused_and_not_kept(no_index, monkeypatch, tmp_path):
    skip_without("litert")
    version = installed_version("litert")
    index, store = tmp_path / "index", tmp_path / "store"
    index.mkdir()
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    tag = f"{python}-{python}-manylinux_2_27_{ELSEWHERE}"
    with zipfile.ZipFile(index / f"ai_edge_litert-{version}-{tag}.whl", "w") as wheel:
        folder = f"ai_edge_litert-{version}.dist-info"
        wheel.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: ai-edge-litert\nVersion: {version}\n")
        wheel.writestr(f"{folder}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        wheel.writestr(f"{folder}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(ToolFailed, match=r"holds no ai_edge_litert/libLiteRt.so"):
        libraries("litert", ELSEWHERE, store)
    assert not list(store.glob("runtime_libraries/*")), "the next call would take this for what was fetched"


def test_what_is_kept_and_was_damaged_is_fetched_again(fetched, tmp_path):
    store, there = fetched
    shutil.copytree(store, tmp_path, dirs_exist_ok=True)
    copy = tmp_path / there.main.relative_to(store)
    copy.write_bytes(there.main.read_bytes()[:5000])
    with pytest.warns(Recomputed, match=f"litert-{there.version}-{ELSEWHERE} does not hold what was made there"):
        libraries("litert", ELSEWHERE, tmp_path)
    assert copy.read_bytes() == there.main.read_bytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_store_that_cannot_be_written_is_named_where_it_is_needed(architecture, tmp_path):
    skip_without("litert")
    store = tmp_path / "file"
    store.write_text("no folder")
    if architecture == HERE:
        assert libraries("litert", architecture, store).main.is_file(), "the installed library needs no store"
    else:
        with pytest.raises(ToolFailed, match=r"name another folder in EDGESLIM_CACHE"):
            libraries("litert", architecture, store)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(BadInput, match=r"unknown runtime `litter`; did you mean `litert`"):
        libraries("litter", HERE)
    with pytest.raises(BadInput, match=r"unknown architecture `armv7l`.*known: x86_64, aarch64"):
        libraries("onnxruntime", "armv7l")


@pytest.mark.parametrize(
    ("runtime", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino"), ("litert", "tflite")]
)
def test_a_runtime_that_is_not_installed_is_named_with_what_installs_it(runtime, extra, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingPackage, match=rf"{PACKAGES[runtime]} is not installed\nhelp: .*edgeslim\[{extra}\]"):
        libraries(runtime, HERE)


def test_the_older_package_of_litert_is_refused_because_it_holds_no_library(monkeypatch, tmp_path):
    (tmp_path / "tflite_runtime-2.14.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: tflite-runtime\nVersion: 2.14.0\n"
    (tmp_path / "tflite_runtime-2.14.0.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingPackage, match=r"tflite-runtime, which is here, holds no C library"):
        libraries("litert", HERE)


@pytest.mark.parametrize(
    ("runtime", "path"),
    [
        ("onnxruntime", "usr/lib/aarch64-linux-gnu/libonnxruntime.so.1.21"),
        ("onnxruntime", "usr/local/lib/libonnxruntime.so"),
        ("openvino", "opt/intel/openvino_2026/runtime/lib/aarch64/libopenvino_c.so.2641"),
        ("openvino", "usr/lib64/libopenvino_c.so.2641"),
        ("litert", "usr/local/lib/libLiteRt.so"),
    ],
)
def test_a_shell_finds_a_library_in_its_usual_place(runtime, path, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    patterns = " ".join(f"{tmp_path}{pattern}" for pattern in STANDARD_PLACES[runtime])
    found = subprocess.run(
        ["sh", "-c", f"ls -d {patterns} 2>/dev/null; true"], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [str(tmp_path / path)]
