"""Single operators as a runtime sees them, and what they take on a device."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeslim.errors import BadInput

KINDS = ("conv", "linear", "add", "mul")


@dataclass(frozen=True, order=True)
class Operator:
    """One operator as a runtime sees it, batch 1.

    With int8, activations are quantized per tensor (uint8, in LiteRT int8) and weights per output channel (int8). A
    convolution ends in a ReLU; "add" and "mul" take two inputs of (height, width, channels_in). Sizes are those of the
    input, 1 and 1 for "linear"; `padding` stands on both sides. Raises BadInput for an operator that cannot exist.
    """

    kind: str
    height: int
    width: int
    channels_in: int
    channels_out: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        """Refuse what no runtime could run."""
        fault = None
        positive = (self.height, self.width, self.channels_in, self.channels_out, self.groups)
        if self.kind not in KINDS:
            fault = f"its kind is one of {', '.join(KINDS)}"
        elif min(*positive, *self.kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            fault = "sizes are at least 1 and padding is at least 0"
        elif self.channels_in % self.groups or self.channels_out % self.groups:
            fault = "groups divide both channel counts"
        elif self.kind == "linear" and (self.height, self.width) != (1, 1):
            fault = "a linear layer has height and width 1"
        elif self.inputs == 2 and self.channels_in != self.channels_out:
            fault = f"{self.kind} keeps the number of channels"
        elif min(self.output_size) < 1:
            fault = "the kernel fits into the padded input"
        if fault:
            raise BadInput(f"{self} cannot exist: {fault}")

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                (self.height, self.width), self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return height, width

    @property
    def inputs(self) -> int:
        """How many inputs it reads, all of one shape."""
        return 2 if self.kind in ("add", "mul") else 1

    @property
    def depthwise(self) -> bool:
        """Tell whether each input channel has its own filters."""
        return self.kind == "conv" and self.groups == self.channels_in > 1


@dataclass(frozen=True)
class OperatorLatency:
    """What single operators of one precision take on a device: in `runtime`, `estimated` for it or measured here.

    `multiple`: the number of channels that the runtime's kernels want a multiple of. `seconds` returns those of one
    inference of each operator; it raises Refused with `missing`, where that says why nothing can be timed here.
    """

    runtime: str
    multiple: int
    estimated: bool
    missing: str | None
    seconds: Callable[[Iterable[Operator]], Mapping[Operator, float]]
