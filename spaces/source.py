"""Writes a network as one Python file of plain torch that needs nothing else; knows no configurations."""

from __future__ import annotations

from spaces.graph import INPUT, Graph, Node

_FUNCTIONS = ("add", "zeros_like")


def source_code(graph: Graph, title: str) -> str:
    """A Python file whose ``Network()`` has the graph's state dict keys and computes the same.

    Args:
        graph: the network.
        title: what the file's docstring says, one paragraph.
    """
    modules = [node for node in graph if node.op not in _FUNCTIONS]
    variables = _variables(graph)
    # Text from a configuration must not end the docstring, nor be read as an escape.
    title = title.replace("\\", "/").replace('"""', "'''")
    lines = [
        f'"""{title}"""',
        "",
        "import torch",
        "from torch import nn",
        "",
        "",
        "class Network(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *(f"        self.{node.name} = nn.{node.op}({_arguments(node)})" for node in modules),
        "",
        f"    def forward(self, {INPUT}):",
        *(f"        {variables[node.name]} = {_expression(node, variables)}" for node in graph),
        f"        return {variables[graph[-1].name]}",
    ]
    return "\n".join(lines) + "\n"


def _arguments(node: Node) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in node.settings.items())


def _expression(node: Node, variables: dict[str, str]) -> str:
    inputs = [variables[name] for name in node.inputs]
    match node.op:
        case "add":
            return " + ".join(inputs)
        case "zeros_like":
            return f"torch.zeros_like({inputs[0]})"
    return f"self.{node.name}({', '.join(inputs)})"


def _variables(graph: Graph) -> dict[str, str]:
    """A local variable for every node, taken up again where the last value in it is no longer needed."""
    last_use = {name: i for i, node in enumerate(graph) for name in node.inputs}
    variables, free, used = {INPUT: INPUT}, [], 0
    for i, node in enumerate(graph):
        done = [variables[name] for name in dict.fromkeys(node.inputs) if last_use[name] == i]
        free += [name for name in done if name not in free]
        if free:
            variables[node.name] = free.pop()
        else:
            used += 1
            variables[node.name] = f"{INPUT}{used}"
    return variables
