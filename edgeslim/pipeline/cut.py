"""Cut what makes probabilities off a network's outputs, where that is wanted."""

from edgeslim.errors import BadInput
from edgeslim.model.graph import PROBABILITIES, copy_of, operator_name, output_nodes, trace
from edgeslim.model.model import Model


def without_probabilities(model: Model) -> Model:
    """Return the model without the softmax, log-softmax or sigmoid that ends an output; what was cut is in its history.

    A softmax or sigmoid keeps the order of what it is given. Raises BadInput where no output ends so.
    """
    graph = copy_of(model.graph)
    ends = zip(output_nodes(graph), model.outputs, strict=True)
    found = {node: output.name for node, output in ends if node.target in PROBABILITIES}
    if not found:
        raise BadInput(f"--logits: no output of {model.source} ends in a softmax, log-softmax or sigmoid; leave it out")
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    for node in found:
        output.replace_input_with(node, node.all_input_nodes[0])
    graph.graph.eliminate_dead_code()
    graph.recompile()
    words = ", ".join(f"{operator_name(node)} at the end of `{name}`" for node, name in found.items())
    return model.after(f"cut: {words}", network=trace(graph, model.input_shape))
