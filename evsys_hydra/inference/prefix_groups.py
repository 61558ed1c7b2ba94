"""Which prompts are worth reading together behind their common beginning: few-shot examples of one subject, say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PrefixGroup:
    """Prompts (by their places) and how many tokens all of them begin with; 0: nothing is shared."""

    shared: int
    places: list[int]


@dataclass
class _Node:
    """Sorted prompts from `start` on that begin with `depth` common tokens, and the best groups found among them."""

    depth: int
    start: int
    saved: int = 0
    groups: list[tuple[int, int, int]] = field(default_factory=list)


def prefix_groups(prompts: Sequence[Sequence[int]], cost: int) -> list[PrefixGroup]:
    """The groups that save the most tokens, then the prompts of no group, if there are any.

    Args:
        cost: a group has to save more tokens than this: it is read apart from the others.

    At least one token of each prompt is left out of what it shares. Sorted prompts make a tree of common beginnings,
    walked from the leaves up; at each node the whole of it is the better group, or its branches' groups are.
    """
    order = sorted(range(len(prompts)), key=lambda place: list(prompts[place]))
    stack: list[_Node] = [_Node(0, 0)]
    for end in range(1, len(order) + 1):
        depth = _shared(prompts[order[end - 1]], prompts[order[end]]) if end < len(order) else 0
        node = _Node(depth, end - 1)
        while stack[-1].depth > depth:
            node = _best(_with(stack.pop(), node), end, cost)
        if stack[-1].depth == depth:
            _with(stack[-1], node)
        else:
            stack.append(_Node(depth, node.start, node.saved, node.groups))
    groups = [PrefixGroup(depth, order[start:end]) for depth, start, end in stack[0].groups]
    grouped = {place for group in groups for place in group.places}
    rest = [place for place in range(len(prompts)) if place not in grouped]
    return [*groups, *([PrefixGroup(0, rest)] if rest else [])]


def _best(node: _Node, end: int, cost: int) -> _Node:
    whole = node.depth * (end - node.start - 1) - cost
    if whole <= node.saved:
        return node
    return _Node(node.depth, node.start, whole, [(node.depth, node.start, end)])


def _with(node: _Node, branch: _Node) -> _Node:
    node.saved += branch.saved
    node.groups += branch.groups
    return node


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    most = min(len(a), len(b)) - 1
    return next((place for place in range(most) if a[place] != b[place]), max(most, 0))
