"""What a student is held against: its teacher's answers, labels, and what is inside the teacher."""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgeslim.compress.legalize.insert import insert_convolution
from edgeslim.model.graph import forward, is_activation, output_nodes, shape_of

MOST_ANSWERS_BYTES = 512 * 2**20  # of the teacher's answers to all images, to be kept
ANSWERS, INSIDE = ("answers", "labels"), ("features", "attention", "relations")
LEAST = 1e-12


class Mix:
    """The weighed sum of losses, each 0 where a student is as its teacher (`labels`: as they say); Loss of a training.

    Both graphs take batches; both are changed so that they return the activations that are compared, the student's
    once more behind a 1x1 convolution of its own for `features`, which learns with it. `targets` are of the images.
    """

    def __init__(
        self,
        student: fx.GraphModule,
        teacher: fx.GraphModule,
        task: ModuleType,
        weights: Mapping[str, float],
        temperature: float,
        images: int,
        targets: Tensor | None,
    ) -> None:
        self.task, self.teacher, self.temperature, self.targets = task, teacher, temperature, targets
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.outputs = len(output_nodes(teacher))
        self.stages = stages_of(student, teacher) if self.weights.keys() & set(INSIDE) else []
        shapes = [(images, *shape_of(node)[1:]) for node in output_nodes(teacher)]
        fits = 4 * sum(map(math.prod, shapes)) <= MOST_ANSWERS_BYTES and not self.stages
        self._kept = [torch.empty(shape) for shape in shapes] if fits else None
        self._answered = torch.zeros(images, dtype=torch.bool)
        adapted = _adapted(student, teacher, self.stages) if "features" in self.weights else []
        _return_too(student, [*_nodes(student, self.stages), *adapted])
        _return_too(teacher, _nodes(teacher, self.stages))

    def __call__(self, outputs: tuple[Tensor, ...], inputs: Tensor, places: Tensor) -> Tensor:
        """Return the mean loss of an image."""
        count, stages = self.outputs, len(self.stages)
        found, inside, adapted = outputs[:count], outputs[count : count + stages], outputs[count + stages :]
        answers = () if self.weights.keys() <= {"labels"} else self._answers(inputs, places)
        wanted, taught = answers[:count], answers[count:]
        total = torch.zeros(())
        for name, weight in self.weights.items():
            if name == "answers":
                loss = self.task.divergence(found, wanted, self.temperature) / len(inputs)
            elif name == "labels":
                loss = self.task.loss(found, None if self.targets is None else self.targets[places])
            elif name == "features":
                loss = features(adapted, taught)
            else:
                loss = attention(inside, taught) if name == "attention" else relations(inside[-1], taught[-1])
            total = total + weight * loss
        return total

    @torch.no_grad()
    def _answers(self, inputs: Tensor, places: Tensor) -> Sequence[Tensor]:
        """Return what the teacher gives, which answers each image once where all of its answers fit."""
        if self._kept is None:
            return forward(self.teacher, inputs)
        if not bool(self._answered[places].all()):
            for kept, found in zip(self._kept, forward(self.teacher, inputs), strict=True):
                kept[places] = found
            self._answered[places] = True
        return [kept[places] for kept in self._kept]


def features(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the squared error of activations (N, C, H, W) relative to what they are, the mean of all stages.

    Romero et al. 2015, FitNets: Hints for Thin Deep Nets, section 2.2.
    """
    errors = [((a - b) ** 2).mean() / ((b**2).mean() + LEAST) for a, b in zip(found, wanted, strict=True)]
    return torch.stack(errors).mean()


def attention(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the squared distance of the places that activations (N, C, H, W) are large at, the mean of all stages.

    Activations may have different channels. Zagoruyko & Komodakis 2017, Paying More Attention to Attention, section
    3.1: squares summed over the channels, as a vector of length 1.
    """
    maps = ([functional.normalize((one**2).sum(1).flatten(1), dim=1) for one in some] for some in (found, wanted))
    return torch.stack([((a - b) ** 2).sum(1).mean() for a, b in zip(*maps, strict=True)]).mean()


def relations(found: Tensor, wanted: Tensor) -> Tensor:
    """Return how else the images of a batch lie to each other, by activations (N, C, H, W), the mean of all places.

    Distances of pairs over their mean, and twice the cosines of the angles of triplets, with Huber's loss. Park et al.
    2019, Relational Knowledge Distillation, section 3.2.
    """
    ours, theirs = (one.mean((2, 3)) for one in (found, wanted))
    apart: Tensor = functional.smooth_l1_loss(_distances(ours), _distances(theirs))
    return apart + 2 * functional.smooth_l1_loss(_angles(ours), _angles(theirs))


def _distances(points: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(points), len(points), 1)
    found: Tensor = torch.linalg.vector_norm(points[first] - points[second] + LEAST, dim=1)
    return found / (found.mean() + LEAST)


def _angles(points: Tensor) -> Tensor:
    towards = functional.normalize(points[None] - points[:, None], dim=2)
    return towards @ towards.transpose(1, 2)


def stages_of(student: fx.GraphModule, teacher: fx.GraphModule) -> list[str]:
    """Return the last activation at each size of images that both networks have, by name, in execution order."""
    ours = {node.name: node for node in student.graph.nodes if is_activation(node) and len(shape_of(node)) == 4}
    last: dict[tuple[int, ...], str] = {}
    for node in teacher.graph.nodes:
        if node.op == "call_function" and node.name in ours and is_activation(node):
            size = shape_of(node)[2:]
            if size == shape_of(ours[node.name])[2:] and math.prod(size) > 1:
                last.pop(size, None)
                last[size] = node.name
    return list(last.values())


def _nodes(graph: fx.GraphModule, names: Sequence[str]) -> list[fx.Node]:
    by_name = {node.name: node for node in graph.graph.nodes}
    return [by_name[name] for name in names]


def _adapted(student: fx.GraphModule, teacher: fx.GraphModule, stages: Sequence[str]) -> list[fx.Node]:
    """Return the student's activations behind 1x1 convolutions with as many outputs as the teacher has channels."""
    (output,) = (node for node in student.graph.nodes if node.op == "output")
    made: list[fx.Node] = []
    for ours, theirs in zip(_nodes(student, stages), _nodes(teacher, stages), strict=True):
        weight = torch.empty(shape_of(theirs)[1], shape_of(ours)[1], 1, 1)
        nn.init.kaiming_uniform_(weight, nonlinearity="linear", generator=torch.Generator().manual_seed(len(made)))
        made.append(insert_convolution(student, output, ours, weight, torch.zeros(len(weight))))
    return made


def _return_too(graph: fx.GraphModule, nodes: Sequence[fx.Node]) -> None:
    """Let a graph return, unpacked, some nodes behind its outputs."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    output.args = ((*output_nodes(graph), *nodes),)
    graph.graph.set_codegen(fx.graph.CodeGen())
    graph.recompile()
