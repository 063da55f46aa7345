"""Which parameter learns how: matrices, the embedding, norms.

Weight decay acts on matrices only. The embedding has a learning rate of its own, since the block
multiplies it by sqrt(hidden_size): a step on it acts that much larger on the input side than on the
head.
"""

from collections.abc import Iterable

from torch import nn

GROUPS = ("matrices", "embedding", "norms")


def group_of(name: str) -> str:
    """Return the group, one of `GROUPS`, of the parameter called `name`."""
    if name.endswith("embed_tokens.weight"):
        return "embedding"
    if name.endswith("norm.weight"):
        return "norms"
    return "matrices"


def grouped_parameters(
    named: Iterable[tuple[str, nn.Parameter]],
) -> dict[str, dict[str, nn.Parameter]]:
    """Return {group: {name: parameter}} in the model's order, every parameter once."""
    groups: dict[str, dict[str, nn.Parameter]] = {group: {} for group in GROUPS}
    for name, parameter in named:
        groups[group_of(name)][name] = parameter
    return groups
