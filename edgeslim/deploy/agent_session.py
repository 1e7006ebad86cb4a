"""What an agent says, read strictly: the messages of runtimes/PROTOCOL.md, and a session made of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.errors import DeviceFailed

PROTOCOL = 2

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@validated_dataclass(frozen=True, config=_STRICT)
class GraphNode:
    """One node that a runtime executed, in the runtime's own words.

    `precision` is the dtype of the activation it works on ("fp32", "uint8"), `inputs` the dtypes of all its inputs,
    `origins` the model's nodes it was made from, where the runtime says so, and `executor` who ran it.
    """

    name: str
    op: str
    precision: str
    inputs: tuple[str, ...]
    origins: tuple[str, ...]
    executor: str


@validated_dataclass(frozen=True, config=_STRICT)
class Hello:
    """The first message: who speaks, and in which version of the protocol."""

    type: Literal["hello"]
    protocol: int
    agent: Literal["c", "python"]
    runtime: str
    package: str | None
    library: str | None
    runtime_version: str | None
    python: str | None
    machine: str


@validated_dataclass(frozen=True, config=_STRICT)
class OneTime:
    """Seconds of loading the model, or of the first inference."""

    type: Literal["init", "first"]
    seconds: float


@validated_dataclass(frozen=True, config=_STRICT)
class Times:
    """Raw times of inferences, in order."""

    type: Literal["time"]
    seconds: tuple[float, ...]


@validated_dataclass(frozen=True, config=_STRICT)
class Window:
    """The whole timed loop: its ends on the device's CLOCK_MONOTONIC, its begin by the clock on the wall."""

    type: Literal["window"]
    began_s: float
    ended_s: float
    began_unix_s: float
    inferences: int


@validated_dataclass(frozen=True, config=_STRICT)
class Outputs:
    """One array of outputs that was saved on the device."""

    type: Literal["outputs"]
    path: str
    shape: tuple[int, ...]
    dtype: str


@validated_dataclass(frozen=True, config=_STRICT)
class Memory:
    """Resident sizes of the agent's process."""

    type: Literal["memory"]
    peak_rss_bytes: int
    rss_before_load_bytes: int
    arena_bytes: int | None


@validated_dataclass(frozen=True, config=_STRICT)
class Heartbeat:
    """A sign of life from an agent that has nothing else to say."""

    type: Literal["heartbeat"]
    at_s: float


@validated_dataclass(frozen=True, config=_STRICT)
class Sample:
    """What small files of the device held at one moment."""

    type: Literal["sample"]
    at_s: float
    unix_s: float
    values: tuple[str | None, ...]


@validated_dataclass(frozen=True, config=_STRICT)
class Graph:
    """The nodes that were executed."""

    type: Literal["graph"]
    nodes: tuple[GraphNode, ...]


@validated_dataclass(frozen=True, config=_STRICT)
class Precision:
    """What was asked for and what ran."""

    type: Literal["precision"]
    requested: str
    actual: str


@validated_dataclass(frozen=True, config=_STRICT)
class Failed:
    """Why the agent gave up; the target raises with it when the process ends."""

    type: Literal["error"]
    reason: str
    message: str


@validated_dataclass(frozen=True, config=_STRICT)
class Done:
    """The last message of a session that succeeded."""

    type: Literal["done"]


Message = Hello | OneTime | Times | Window | Outputs | Memory | Graph | Precision | Failed | Done | Heartbeat | Sample
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


@dataclass(frozen=True)
class Session:
    """What one process of the agent reported; `graph`, `precision_actual`, `window` only where they were asked for."""

    hello: Hello
    init_s: float
    first_s: float
    samples_s: tuple[float, ...]
    window: Window | None
    memory: Memory
    graph: tuple[GraphNode, ...] | None
    precision_actual: str | None

    @property
    def executors(self) -> dict[str, int]:
        """How many nodes each executor ran."""
        return dict(Counter(node.executor for node in self.graph or ()))


def read_session(lines: Iterable[str]) -> Session:
    """Read an agent's messages; DeviceFailed names the first line that breaks PROTOCOL.md, or what is missing."""
    messages: dict[str, Message] = {}
    samples_s: list[float] = []
    for number, line in enumerate(lines, start=1):
        message = read_message(line, number)
        if number == 1 and (not isinstance(message, Hello) or message.protocol != PROTOCOL):
            raise DeviceFailed(
                f"agent's line 1: `hello` in protocol {PROTOCOL} was expected, not {line[:200]}", "protocol"
            )
        if isinstance(message, Times):
            samples_s.extend(message.seconds)
        messages[message.type] = message
    return _assemble(messages, tuple(samples_s))


def read_message(line: str, number: int) -> Message:
    """Read one line; DeviceFailed ("protocol") says where it breaks the format."""
    try:
        return _MESSAGE.validate_json(line)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DeviceFailed(
            f"agent's line {number} is no message ({where}: {fault['msg']}): {line[:200]}", "protocol"
        ) from error


def _assemble(messages: Mapping[str, Message], samples_s: tuple[float, ...]) -> Session:
    match messages.get("error"):
        case Failed(reason=reason, message=message):
            raise DeviceFailed(f"agent: {reason}: {message}")
    match [messages.get(kind) for kind in ("hello", "init", "first", "memory", "done")]:
        case [Hello() as hello, OneTime() as init, OneTime() as first, Memory() as memory, Done()]:
            pass
        case _:
            held = ", ".join(messages) or "nothing"
            raise DeviceFailed(f"agent: the session is incomplete; it holds only {held}", "protocol")
    graph, precision, window = messages.get("graph"), messages.get("precision"), messages.get("window")
    return Session(
        hello=hello,
        init_s=init.seconds,
        first_s=first.seconds,
        samples_s=samples_s,
        window=window if isinstance(window, Window) else None,
        memory=memory,
        graph=graph.nodes if isinstance(graph, Graph) else None,
        precision_actual=precision.actual if isinstance(precision, Precision) else None,
    )
