"""Weights from a file, held against the network they are for."""

import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeslim.errors import BadModel


def load_weights(network: nn.Module, path: Path) -> None:
    """Load all weights of a network from a file; BadModel where they do not fit it, or the file is none."""
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
        if strange := _strangeness(value):
            raise BadModel(f"{path}: `{name}` is {strange}; expected a plain tensor of numbers")
        if value.shape != expected[name].shape:
            raise BadModel(
                f"{path}: `{name}` has shape {tuple(value.shape)}, the model expects {tuple(expected[name].shape)}"
            )
    network.load_state_dict(state)


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
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise BadModel(f"{path} holds no state dict (names to tensors)")
    return state


def weights_name(weights: str | None, otherwise: str) -> str:
    """Return what an artifact calls the weights that `weights` names."""
    if weights in (None, "default"):
        return otherwise
    return "random" if weights == "random" else Path(str(weights)).name
