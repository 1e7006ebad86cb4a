"""Models: an image classifier given as a PyTorch module, with everything needed to feed it."""

import hashlib
import importlib.util
import pickle
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn

from edgeslim.equivalence import LEAST_DB, require_equal
from edgeslim.errors import BadModel, MissingPackage, near_misses
from edgeslim.graph import output_of, shape_of, trace
from edgeslim.half_plan import HalfPlan
from edgeslim.numerics import Numerics
from edgeslim.resources import default_model_folder
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.trial import Trial

FASHION_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FOREIGN_FORMATS = {".onnx": "ONNX", ".tflite": "TFLite", ".xml": "OpenVINO", ".pt2": "torch.export", ".h5": "Keras"}


@dataclass(frozen=True)
class Model:
    """A classifier at one point of its compression; steps return changed copies (`dataclasses.replace`)."""

    source: str  # the words that load it again
    weights_source: str  # "bundled", "random" (seeded) or a file's name
    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    history: tuple[str, ...] = ()
    numerics: Numerics | None = field(default=None)
    half: HalfPlan | None = None  # for a GPU
    trials: tuple[Trial, ...] = ()  # what pruning tried
    lost_points: float = 0.0  # of top-1 on the selection images, before quantization
    origin: nn.Module | None = None  # what the network still computes exactly; None: it is that itself

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Return (1, channels, height, width)."""
        return (1, self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width)

    @cached_property
    def graph(self) -> fx.GraphModule:
        """The network as aten operators; traced at the first use, BadModel where that fails."""
        return self.network if isinstance(self.network, fx.GraphModule) else trace(self.network, self.input_shape)

    @property
    def classes(self) -> int:
        """Number of logits."""
        return shape_of(output_of(self.graph))[1]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.network.parameters())

    def weights_sha256(self) -> str:
        """Return the hash of all names, shapes and values of the state."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def reference(self) -> nn.Module:
        """What the network must compute: the user's module, or what the last step made that changed the answers."""
        return self.network if self.origin is None else self.origin

    def after(self, step: str, **changes: Any) -> "Model":
        """Return a copy with `changes` and one more line of history; a new network is its own reference."""
        if "network" in changes:
            changes["origin"] = None
        return replace(self, history=(*self.history, step), **changes)

    def exactly(self, step: str, line: str, network: fx.GraphModule, images: Tensor) -> "Model":
        """Return a copy with a network that computes the same, and one more line of history.

        `images` (n, C, H, W) are those on which it must. Raises ToolFailed, naming `step` and the first node where the
        two part, where it does not.
        """
        found = require_equal(step, self.reference, network, images)
        if found.own_db is None:
            line += f"; held to {LEAST_DB:g} dB alone, for the network cannot be run in float64"
        return replace(self, history=(*self.history, line), network=network, origin=self.reference)


def name_of(source: str | None) -> str:
    """Return a short name for what `load_model` would load: "default", "resnet50", a file's stem."""
    if source is None:
        return "default"
    file, _, name = source.rpartition(":")
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(file).stem if file.endswith(".py") else name).strip("-.")
    return plain or "model"


def load_model(source: str | None = None, weights: str | None = None, seed: int = 0) -> Model:
    """Return the model that `source` and `weights` name.

    `source`: None (the bundled default) · "torchvision:NAME" · "FILE.py:FACTORY".
    `weights`: "random" · "default" (torchvision: from its local cache, never downloaded) · a file:
    safetensors, or a .pt state dict read with `weights_only=True`.
    Raises BadModel with what is wrong and what was expected.
    """
    if source is None:
        model = _bundled(weights, seed)
    elif source.startswith("torchvision:"):
        model = _from_torchvision(source, weights, seed)
    else:
        model = _from_file(source, weights, seed)
    _refuse_broken(model)
    if model.weights_source == "random":
        _settle_batch_norm(model.network, model.input_shape, seed)
    return model


@torch.no_grad()
def _settle_batch_norm(network: nn.Module, shape: tuple[int, ...], seed: int) -> None:
    """Estimate the statistics of a random network's batch norms on noise, so that its signal does not vanish."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [n.momentum for n in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
        norm.train()
    network(torch.randn((8, *shape[1:]), generator=torch.Generator().manual_seed(seed)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _bundled(weights: str | None, seed: int) -> Model:
    from edgeslim.default_model.network import make

    torch.manual_seed(seed)
    network = make()
    if weights != "random":
        _load_weights(network, Path(weights) if weights else default_model_folder() / "weights.safetensors")
    preprocessing = Preprocessing(
        width=28, height=28, channels=1, resize=28, mean=(0.2860,), std=(0.3530,), color_order="GRAY",
        interpolation="bilinear",
    )  # fmt: skip
    return Model("default", _weights_name(weights, "bundled"), network, preprocessing, FASHION_LABELS)


def _from_torchvision(source: str, weights: str | None, seed: int) -> Model:
    name = source.removeprefix("torchvision:")
    models = torchvision_models()
    known = models.list_models(module=models)
    if name not in known:
        raise BadModel(f"torchvision has no classifier `{name}`{near_misses(name, known)}")
    if weights is None:
        raise BadModel(f"{source} needs --weights: default (torchvision's local cache), random, or a file")
    torch.manual_seed(seed)
    # Trained weights of these two expect their network to rescale its input, which it does when it is told to only.
    rescaling = {"transform_input": weights != "random", "init_weights": False}
    network = models.get_model(name, weights=None, **(rescaling if name in ("googlenet", "inception_v3") else {}))
    published = models.get_model_weights(name).DEFAULT
    if weights == "default":
        _load_weights(network, _cached(published))
    elif weights != "random":
        _load_weights(network, Path(weights))
    return Model(
        source,
        _weights_name(weights, published.name if weights == "default" else ""),
        network,
        _torchvision_preprocessing(published.transforms()),
        tuple(published.meta["categories"]),
    )


def _torchvision_preprocessing(transform: Any) -> Preprocessing:
    """Return what torchvision's own transform of a classifier does, as ours."""
    return Preprocessing(
        width=transform.crop_size[0],
        height=transform.crop_size[0],
        channels=3,
        resize=transform.resize_size[0],
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        color_order="RGB",
        interpolation=transform.interpolation.value,
    )


def torchvision_models() -> Any:
    """Return `torchvision.models`, importable on a CPU-only torch too."""
    if importlib.util.find_spec("torchvision") is None:
        raise MissingPackage("torchvision", "torchvision")
    _make_torchvision_importable()
    import torchvision.models

    return torchvision.models


def _make_torchvision_importable() -> None:
    """Declare the operators of torchvision's compiled extension where it is installed and its extension cannot load.

    The wheel's extension is built for CUDA; on another torch torchvision's own Python fails on the missing
    operators. Declaring their schemas is all that its classifiers need.
    """
    installed = importlib.util.find_spec("torchvision") is not None
    if installed and "torchvision" not in sys.modules and not _extension_loads():
        _declare_detection_operators()


def _extension_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    for library in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(library))
        except (OSError, ImportError):
            continue
        return True
    return False


_DECLARED: list[torch.library.Library] = []  # a Library undoes its declarations when it is collected


def _declare_detection_operators() -> None:
    if _DECLARED:
        return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)


def _cached(published: Any) -> Path:
    """Return the file of published weights in torch's local cache; never downloads."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / published.url.rsplit("/", 1)[-1]
    if not file.is_file():
        raise BadModel(
            f"the weights {published} are not in the local cache ({file.name} under {file.parent}), and edgeslim "
            f"downloads nothing: fetch {published.url} and pass --weights FILE"
        )
    return Path(file)


def _from_file(source: str, weights: str | None, seed: int) -> Model:
    suffix = Path(source.partition(":")[0]).suffix
    if suffix in FOREIGN_FORMATS:
        raise BadModel(
            f"{source} is a file in the {FOREIGN_FORMATS[suffix]} format; edgeslim takes PyTorch modules: "
            "FILE.py:FACTORY or torchvision:NAME"
        )
    file, colon, factory = source.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise BadModel(f"`{source}` is no model; expected FILE.py:FACTORY, torchvision:NAME, or nothing")
    path = Path(file)
    if not path.is_file():
        raise BadModel(f"{file} does not exist or is no file")
    torch.manual_seed(seed)
    with _importing_from(path.resolve().parent), redirect_stdout(sys.stderr):  # what it prints is no result of ours
        namespace = _run(path)
        if factory not in namespace:
            known = [n for n, v in namespace.items() if callable(v) and not n.startswith("_")]
            raise BadModel(f"{file} defines no `{factory}`{near_misses(factory, known)}")
        try:
            network = namespace[factory]()
        except (Exception, SystemExit) as error:
            raise BadModel(f"{source} raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise BadModel(f"{source} returned a {type(network).__name__}, expected a torch.nn.Module")
    if weights == "default":
        raise BadModel("--weights default is for torchvision models; pass a file, `random`, or nothing")
    if weights not in (None, "random"):
        _load_weights(network, Path(str(weights)))
    labels = namespace.get("LABELS")
    if labels is not None and not (isinstance(labels, list | tuple) and all(isinstance(n, str) for n in labels)):
        raise BadModel(f"{file} [LABELS]: expected a list of names, one for each class")
    return Model(
        f"{path.name}:{factory}",
        _weights_name(weights, "factory"),
        network,
        _preprocessing_in(namespace, file),
        tuple(labels) if labels else None,
    )


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let a user's file import what lies beside it, as it can when Python runs it, and torchvision on any torch."""
    _make_torchvision_importable()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _run(path: Path) -> dict[str, Any]:
    """Run a user's Python file and return what it defines."""
    spec = importlib.util.spec_from_file_location(f"edgeslim_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadModel(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadModel(f"{path} raised {type(error).__name__} while it was loaded: {error}") from error
    return vars(module)


def _preprocessing_in(namespace: Mapping[str, Any], file: str) -> Preprocessing:
    example = (
        'PREPROCESSING = {"width": 224, "height": 224, "channels": 3, "resize": 256, "mean": [0.485, 0.456, 0.406], '
        '"std": [0.229, 0.224, 0.225], "color_order": "RGB", "interpolation": "bilinear"}'
    )
    if "PREPROCESSING" not in namespace:
        raise BadModel(f"{file} does not say how images become inputs; define, for example: {example}")
    try:
        return Preprocessing.from_dict(namespace["PREPROCESSING"])
    except (ValueError, TypeError) as error:
        raise BadModel(f"{file} [PREPROCESSING]: {error}; for example: {example}") from error


def _load_weights(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise BadModel(f"weights {path} do not exist or are no file")
    state = _read_state(path)
    expected = network.state_dict()
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise BadModel(
            f"{path} does not fit the model: {len(missing)} weights missing{_first(missing)}, "
            f"{len(unknown)} unknown{_first(unknown)}"
        )
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise BadModel(
                f"{path}: `{name}` has shape {tuple(value.shape)}, the model expects {tuple(expected[name].shape)}"
            )
    network.load_state_dict(state)


def _first(names: list[str]) -> str:
    return f" (first: `{names[0]}`)" if names else ""


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise BadModel(f"{path} is no readable safetensors file: {error}") from error
    if path.suffix not in (".pt", ".pth"):
        raise BadModel(f"{path}: weights are .safetensors, or .pt/.pth state dicts without code")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # it is read or refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadModel(
            f"{path} is refused: it is damaged, or a pickle with code inside, which edgeslim never runs; "
            "save the state dict with safetensors"
        ) from error
    except Exception as error:  # torch's unpickler lets through whatever damaged bytes make it stumble over
        raise BadModel(f"{path} is no readable PyTorch file: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BadModel(f"{path} holds no state dict (names to tensors)")
    return state


def _weights_name(weights: str | None, otherwise: str) -> str:
    if weights in (None, "default"):
        return otherwise
    return "random" if weights == "random" else Path(str(weights)).name


def _refuse_broken(model: Model) -> None:
    for name, value in model.network.state_dict().items():
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            raise BadModel(f"weight `{name}` of {model.source} holds NaN or infinite values")
    shape = _output_shape(model)
    if isinstance(shape, str) or len(shape) != 2 or shape[0] != 1:
        raise BadModel(
            f"{model.source} returns {shape if isinstance(shape, str) else f'a tensor of shape {shape}'}; "
            "edgeslim takes image classifiers, which return (N, classes)"
        )
    if shape[1] < 2:
        raise BadModel(f"{model.source} has one class; edgeslim compares top-1 answers, which takes at least two")
    if model.labels is not None and len(model.labels) != shape[1]:
        raise BadModel(f"{model.source} has {len(model.labels)} labels and {shape[1]} classes")


@torch.no_grad()
def _output_shape(model: Model) -> tuple[int, ...] | str:
    """Return the shape of the tensor the network returns, or in words what it returns instead.

    The network itself is asked: its graph holds the same node whether a tensor is returned bare or in a container.
    """
    graph = model.graph  # first of all: a network that cannot be traced is refused with the reason
    output = model.network(torch.zeros(model.input_shape))
    return shape_of(output_of(graph)) if isinstance(output, Tensor) else f"a {type(output).__name__}"
