"""Networks that return more than their logits, in every way that people pack outputs; the file is a model source."""

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.support.small_models import CLASSES, LABELS, PREPROCESSING, SIDE, Passing, headed, plain, randomized

__all__ = ["LABELS", "PREPROCESSING"]

Pair = namedtuple("Pair", ["features", "logits"])


@dataclass
class Answer:
    """What some training code returns; torch.export knows nothing of it."""

    features: Tensor
    logits: Tensor
    loss: Tensor | None = None


@dataclass
class Heads:
    """Two outputs that are both wanted."""

    logits: Tensor
    place: Tensor


def of(forward) -> nn.Module:
    """A network whose answer is packed by a function of itself, its features and its logits."""
    body = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    modules = {"body": body, "head": headed(), "other": nn.Linear(6, CLASSES), "place": nn.Linear(6, SIDE)}
    return randomized(Passing(lambda self, x: forward(self, y := self.body(x), self.head(y)), **modules))


def in_a_tuple() -> nn.Module:
    return of(lambda self, features, logits: (features, logits))


def in_a_list() -> nn.Module:
    return of(lambda self, features, logits: [features, None, logits])


def in_a_dictionary() -> nn.Module:
    return of(lambda self, features, logits: {"features": features, "class": logits, "step": 7})


def in_a_dataclass() -> nn.Module:
    return of(lambda self, features, logits: Answer(features, logits))


def in_a_named_tuple() -> nn.Module:
    return of(lambda self, features, logits: Pair(features, logits))


def nested() -> nn.Module:
    return of(lambda self, features, logits: {"hidden": (features, [features * 2]), "out": {"logits": logits}})


def with_its_answer() -> nn.Module:
    return of(lambda self, features, logits: (logits, logits.argmax(1)))


def named_among_equals() -> nn.Module:
    return of(lambda self, features, logits: {"aux": self.other(features.mean((2, 3))), "logits": logits})


def with_nothing_beside() -> nn.Module:
    return of(lambda self, features, logits: (logits, None))


def both_heads() -> nn.Module:
    return of(lambda self, features, logits: Heads(logits, self.place(features.mean((2, 3)))))


def first_of_equals() -> nn.Module:
    return of(lambda self, features, logits: (logits, self.other(features.mean((2, 3)))))


def two_behind_features() -> nn.Module:
    return of(lambda self, features, logits: (features, logits, self.other(features.mean((2, 3)))))


def features_alone() -> nn.Module:
    return of(lambda self, features, logits: {"low": features, "high": features * 2})


def nothing() -> nn.Module:
    return of(lambda self, features, logits: None)


there_already = of(lambda self, features, logits: [features, logits, logits * 2])
made_beside = plain()


def needs(width: int, *, depth: int, dropout: float = 0.0) -> nn.Module:
    raise AssertionError("it was called")


class Needs(nn.Module):
    """A class as people write it, with what it needs."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        raise AssertionError("it was called")


with_a_number = torch.zeros(1)
