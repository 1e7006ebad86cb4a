"""Weights from a file, held against the network they are for."""

import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeslim.errors import BadModel
from edgeslim.model.sources.known import holds_weights

# Where the checkpoints of a training loop hold the state dict, beside optimizers and counts.
CHECKPOINT_KEYS = ("model_state_dict", "state_dict", "model")
PARALLEL = "module."  # what DataParallel writes before every name


def load_weights(network: nn.Module, path: Path) -> str:
    """Load all weights of a network from a file, and return what an artifact calls them: the file, and where in it.

    A checkpoint's state dict is found under its usual keys. BadModel where the weights do not fit the network, or the
    file is none.
    """
    key, state = read_state(path)
    expected = network.state_dict()
    if state.keys() != expected.keys():
        state = without_prefix(state)
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise BadModel(
            f"{path} does not fit the model: {len(missing)} weights missing{_first(missing)}, "
            f"{len(unknown)} unknown{_first(unknown)}"
        )
    for name, value in state.items():
        if strange := _strangeness(value):
            raise BadModel(f"{path}: `{name}` is {strange}; expected a plain tensor of numbers")
        if value.shape != expected[name].shape:
            raise BadModel(
                f"{path}: `{name}` has shape {tuple(value.shape)}, the model expects {tuple(expected[name].shape)}"
            )
    network.load_state_dict(state)
    return f"{path.name}[{key}]" if key else path.name


def _strangeness(value: Tensor) -> str | None:
    """Return what makes a tensor of a file none that a weight could be, None for a plain one."""
    if value.is_meta:
        return "a meta tensor, without values"
    if value.layout is not torch.strided:
        return "sparse"
    if value.is_quantized:
        return "quantized"
    return "complex" if value.is_complex() else None


def _first(names: list[str]) -> str:
    return f" (first: `{names[0]}`)" if names else ""


def read_state(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the state dict of a file, and the key under which a checkpoint holds it, "" where the file is it."""
    if not path.is_file():
        raise BadModel(f"weights {path} do not exist or are no file")
    if path.suffix == ".safetensors":
        try:
            return "", load_file(path)
        except (SafetensorError, OSError) as error:
            raise BadModel(f"{path} is no readable safetensors file: {error}") from error
    if not holds_weights(str(path)):
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
    if _is_state(state):
        return "", state
    for key in CHECKPOINT_KEYS if isinstance(state, dict) else ():
        if _is_state(state.get(key)):
            return key, state[key]
    keys = f"; it holds {', '.join(f'`{one}`' for one in list(state)[:8])}" if isinstance(state, dict) else ""
    raise BadModel(f"{path} holds no state dict (names to tensors), nor one under {', '.join(CHECKPOINT_KEYS)}{keys}")


def _is_state(found: object) -> bool:
    """Tell whether something maps names to tensors."""
    return isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    )


def without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without what DataParallel writes before every name."""
    if state and all(name.startswith(PARALLEL) for name in state):
        return {name.removeprefix(PARALLEL): value for name, value in state.items()}
    return state
