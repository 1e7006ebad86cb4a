"""Cut what makes probabilities off a network's outputs, where that is wanted."""

from edgeslim.errors import BadInput
from edgeslim.model.graph import copy_of, operator_name, trace
from edgeslim.model.graph import without_probabilities as cut
from edgeslim.model.model import Model


def without_probabilities(model: Model) -> Model:
    """Return the model without the softmax, log-softmax or sigmoid that ends an output; what was cut is in its history.

    A softmax or sigmoid keeps the order of what it is given. Raises BadInput where no output ends so.
    """
    graph = copy_of(model.graph)
    ends = zip(cut(graph), model.outputs, strict=True)
    words = ", ".join(f"{operator_name(node)} at the end of `{output.name}`" for node, output in ends if node)
    if not words:
        raise BadInput(f"--logits: no output of {model.source} ends in a softmax, log-softmax or sigmoid; leave it out")
    return model.after(f"cut: {words}", network=trace(graph, model.input_shape))
