"""A classifier, as a model file, that breaks rules of an NPU which a rewrite cures; `hopeless` breaks one more."""

from torch import nn
from torch.nn import functional

from tests.support.small_models import PREPROCESSING, Passing  # noqa: F401 - a model file says how images become inputs


def curable() -> nn.Module:
    return Passing(
        lambda self, x: self.head(self.stem(x).relu().mean((2, 3))), stem=nn.Conv2d(3, 8, 3, 4, 1), head=nn.Linear(8, 4)
    )


def hopeless() -> nn.Module:
    return Passing(
        lambda self, x: self.head(functional.elu(self.stem(x)).mean((2, 3))),
        stem=nn.Conv2d(3, 8, 3, 4, 1), head=nn.Linear(8, 4),
    )  # fmt: skip
