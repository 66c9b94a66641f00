"""Writes a network as one Python file of plain torch that needs nothing else; knows no configurations."""

from __future__ import annotations

from spaces.graph import FUNCTIONS, INPUT, Graph, Node

# What a network may need beside torch.nn, as it stands in the file; blocks of code by the op they serve.
_HELPERS = {
    "pad": """
def pad(x, *others, channels=None):
    high, wide = (max(t.shape[side] for t in (x, *others)) for side in (2, 3))
    more = 0 if channels is None else channels - x.shape[1]
    return nn.functional.pad(x, (0, wide - x.shape[3], 0, high - x.shape[2], 0, more))
""",
    "shrink": """
def shrink(x, *others):
    return nn.functional.adaptive_avg_pool2d(x, [min(t.shape[side] for t in (x, *others)) for side in (2, 3)])
""",
    "shift": """
def shift(x):
    return nn.functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
""",
    "DropPath": """
class DropPath(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = torch.rand((len(x),) + (1,) * (x.ndim - 1), device=x.device) >= self.p
        return x * keep / (1 - self.p)
""",
}


def source_code(graph: Graph, title: str) -> str:
    """A Python file whose ``Network()`` has the graph's state dict keys and computes the same.

    Args:
        graph: the network.
        title: what the file's docstring says, one paragraph.
    """
    modules = [node for node in graph if node.op not in FUNCTIONS]
    used = {node.op for node in graph}
    helpers = "\n".join(code for op, code in _HELPERS.items() if op in used)
    variables = _variables(graph)
    # Text from a configuration must not end the docstring, nor be read as an escape.
    title = title.replace("\\", "/").replace('"""', "'''")
    lines = [
        f'"""{title}"""',
        "",
        "import torch",
        "from torch import nn",
        *(helpers and ["", helpers.rstrip()]),
        "",
        "",
        "class Network(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *(f"        self.{node.name} = {_class(node)}({_arguments(node)})" for node in modules),
        "",
        f"    def forward(self, {INPUT}):",
        *(f"        {variables[node.name]} = {_expression(node, variables)}" for node in graph),
        f"        return {variables[graph[-1].name]}",
    ]
    return "\n".join(lines) + "\n"


def _class(node: Node) -> str:
    return node.op if node.op in _HELPERS else f"nn.{node.op}"


def _arguments(node: Node) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in node.settings.items())


def _expression(node: Node, variables: dict[str, str]) -> str:
    inputs = [variables[name] for name in node.inputs]
    match node.op:
        case "add":
            return " + ".join(inputs)
        case "concat":
            return f"torch.cat([{', '.join(inputs)}], 1)"
        case "zeros_like":
            return f"torch.zeros_like({inputs[0]})"
        case "pad" | "shrink" | "shift":
            return f"{node.op}({', '.join([*inputs, _arguments(node)] if node.settings else inputs)})"
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
