"""The runtimes' own shared libraries, which the C agent loads: of the installed package, or fetched for a device."""

import importlib.metadata
import platform
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from edgeslim.deploy.agent_program import ARCHITECTURES
from edgeslim.errors import BadInput, MissingPackage, ToolFailed, near_misses
from edgeslim.formats import FORMATS, RUNTIMES
from edgeslim.resources import default_store, python_command
from edgeslim.sealed import sealed_folder
from edgeslim.work_folders import work_folder

FETCH_LIMIT_S = 1800.0

# Runtime -> the Python package that carries its library.
PACKAGES: dict[str, str] = {name: one.packages[0] for name, one in RUNTIMES.items()}
# Runtime -> the files of that package that a program on a CPU needs, the one to load first; {plugin} is OpenVINO's for
# the architecture. It looks for its parts beside itself; TBB loads its allocator and hwloc's binding the same way.
_FILES = {
    "onnxruntime": ("onnxruntime/capi/libonnxruntime.so.*",),
    "openvino": tuple(
        f"openvino/libs/{name}"
        for name in (
            "libopenvino_c.so.*",
            "libopenvino.so.*",
            "libopenvino_ir_frontend.so.*",
            "libopenvino_{plugin}_cpu_plugin.so",
            "libtbb.so.*",
            "libtbbmalloc.so.*",
            "libtbbbind_2_5.so.*",
            "libhwloc.so.*",
        )
    ),
    "litert": ("ai_edge_litert/libLiteRt.so",),
}
_PLUGINS = {"x86_64": "intel", "aarch64": "arm"}

_FOLDERS = ("/usr/lib", "/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
# Runtime -> shell patterns of where a device's own library usually lies.
STANDARD_PLACES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": (
        *(f"{folder}/libonnxruntime.so*" for folder in _FOLDERS),
        "/opt/onnxruntime*/lib/libonnxruntime.so*",
    ),
    "openvino": (
        *(f"{folder}/libopenvino_c.so*" for folder in _FOLDERS),
        "/opt/intel/openvino*/runtime/lib/*/libopenvino_c.so*",
    ),
    "litert": tuple(f"{folder}/libLiteRt.so*" for folder in _FOLDERS),
}

_ELF64_LITTLE = b"\x7fELF\x02\x01"
_VERSIONS_NEEDED = 0x6FFFFFFE  # the type of the section .gnu.version_r


@dataclass(frozen=True)
class Libraries:
    """A runtime's shared libraries for one architecture: `main` is the one to load, `files` all that must travel.

    They lie in one folder, `main` among them. `glibc` ("2.34") and `libstdcxx` (GLIBCXX, "3.4.30") are the lowest
    versions that the files themselves ask for, "0" where any will do.
    """

    runtime: str
    version: str
    architecture: str
    main: Path
    files: tuple[Path, ...]
    glibc: str
    libstdcxx: str


def libraries(runtime: str, architecture: str, store: Path | None = None) -> Libraries:
    """Return the libraries of the installed version of `runtime` for an architecture ("x86_64", "aarch64").

    Those of this machine's architecture are the installed ones; for another the same version is fetched from the
    package index once and kept in `store` (by default where results are kept). Raises BadInput for an unknown name,
    MissingPackage where the runtime is not installed, or only a package of it without a C library, and ToolFailed where
    its files cannot be fetched or read.
    """
    _require_known("runtime", runtime, PACKAGES)
    _require_known("architecture", architecture, ARCHITECTURES)
    package = _installed(runtime)
    patterns = [pattern.format(plugin=_PLUGINS[architecture]) for pattern in _FILES[runtime]]
    if architecture == platform.machine():
        files = _pick(patterns, {str(file): Path(str(file.locate())) for file in package.files or ()})
        if files is None:
            raise MissingPackage(f"{PACKAGES[runtime]} with its C library", _extra(runtime))
    else:
        name, requirement = f"{runtime}-{package.version}-{architecture}", f"{PACKAGES[runtime]}=={package.version}"
        files = _fetched(store or default_store(), name, requirement, architecture, patterns)
    needs = _needs(files)
    return Libraries(
        runtime=runtime,
        version=package.version,
        architecture=architecture,
        main=files[0],
        files=files,
        glibc=needs.get("GLIBC", "0"),
        libstdcxx=needs.get("GLIBCXX", "0"),
    )


def _require_known(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise BadInput(f"unknown {what} `{name}`{near_misses(name, known)}; known: {', '.join(known)}")


def _installed(runtime: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(PACKAGES[runtime])
    except importlib.metadata.PackageNotFoundError:
        package = PACKAGES[runtime]
    if runtime == "litert" and any(importlib.metadata.distributions(name="tflite-runtime")):
        package += " (tflite-runtime, which is here, holds no C library)"
    raise MissingPackage(package, _extra(runtime))


def _extra(runtime: str) -> str:
    return next(one.extra for one in FORMATS.values() if one.runtime == runtime)


def _pick(patterns: list[str], named: Mapping[str, Path]) -> tuple[Path, ...] | None:
    """Return the one file for each pattern, in their order, or None where one is missing; name -> file."""
    picked = [next((file for name, file in named.items() if fnmatchcase(name, pattern)), None) for pattern in patterns]
    files = tuple(file for file in picked if file is not None and file.is_file())
    return files if len(files) == len(patterns) else None


def _fetched(store: Path, name: str, requirement: str, architecture: str, patterns: list[str]) -> tuple[Path, ...]:
    """Return the files of the folder `name`, after fetching them where it is not there."""

    def fetch(folder: Path) -> None:
        with work_folder(folder.parent) as temporary:
            _unpack(_download(requirement, architecture, temporary), patterns, folder)

    folder = sealed_folder(store, "runtime_libraries", name, fetch)
    return tuple(next(folder.glob(PurePosixPath(pattern).name)) for pattern in patterns)


def _download(requirement: str, architecture: str, folder: Path) -> Path:
    """Return the wheel that pip brings for another machine into `folder`; ToolFailed with pip's last lines."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # The lowest glibc first, which is what pip prefers: it runs on most devices.
    platforms = [f"manylinux2014_{architecture}", *(f"manylinux_2_{n}_{architecture}" for n in range(17, 44))]
    command = [
        *python_command("-m", "pip", "--no-input", "--disable-pip-version-check", "download", "--quiet"),
        *("--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", version),
        *(word for platform_ in platforms for word in ("--platform", platform_)),
        *("--dest", str(folder), requirement),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"{requirement} for {architecture}: not fetched after {FETCH_LIMIT_S:g} s") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise ToolFailed(f"{requirement} for {architecture} cannot be fetched; pip says:\n{last}")
    return wheels[0]


def _unpack(wheel: Path, patterns: list[str], folder: Path) -> None:
    """Write the files of `wheel` that the patterns name into `folder`, side by side."""
    with zipfile.ZipFile(wheel) as archive:
        for pattern in patterns:
            name = next((name for name in archive.namelist() if fnmatchcase(name, pattern)), None)
            if name is None:
                raise ToolFailed(f"{wheel.name} holds no {pattern}: this version cannot be brought to a device")
            with archive.open(name) as source, (folder / PurePosixPath(name).name).open("wb") as target:
                shutil.copyfileobj(source, target)


def _needs(files: Iterable[Path]) -> dict[str, str]:
    """Return the highest version of each set of symbols that the files ask for: {"GLIBC": "2.34", ...}.

    A wheel's own tag is no substitute: some ask for a later glibc than it says.
    """
    highest: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            names = list(_versions_needed(file.read_bytes()))
        except (struct.error, IndexError, ValueError) as error:
            raise ToolFailed(f"{file} is no whole ELF library; delete it, or install its package again") from error
        for name in names:
            family, _, version = name.partition("_")
            if version.replace(".", "").isdecimal():  # unlike GLIBC_PRIVATE
                numbers = tuple(int(part) for part in version.split("."))
                highest[family] = max(highest.get(family, ()), numbers)
    return {family: ".".join(map(str, numbers)) for family, numbers in highest.items()}


def _versions_needed(elf: bytes) -> Iterator[str]:
    """Yield the names of the symbol versions that a 64-bit little-endian ELF file needs of other libraries.

    Format: System V ABI, and the section .gnu.version_r of the Linux Standard Base.
    """
    if not elf.startswith(_ELF64_LITTLE):
        raise ValueError("no 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    # Of each section: its type, its offset in the file, its link to another section.
    sections = [struct.unpack_from("<4xI16xQ8xI", elf, table + number * size) for number in range(count)]
    for kind, offset, link in sections:
        if kind != _VERSIONS_NEEDED:
            continue
        names = sections[link][1]
        library = offset
        while True:
            of_library, first, next_library = struct.unpack_from("<2xH4xII", elf, library)
            entry = library + first
            for _ in range(of_library):
                name, next_entry = struct.unpack_from("<8xII", elf, entry)
                yield elf[names + name : elf.index(b"\0", names + name)].decode()
                entry += next_entry
            if next_library == 0:
                break
            library += next_library
