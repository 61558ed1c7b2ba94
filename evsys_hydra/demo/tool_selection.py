"""The `tool_selection` benchmark: choose the right tool and action from a list, for a request with one argument.

Every task offers actions of several toolkits, the right toolkit's other actions among them, in random order. The answer
is a JSON object {"tool", "action", "text"}. For real models: the demo model was never shown lists of tools.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ..config import KindConfig
from ..registry import register_benchmark
from .tasks import Draft, Task, number

TOOLKITS: dict[str, dict[str, tuple[str, str]]] = {
    "mail": {
        "send": ("write a new mail to a person", "Let {person} know by mail that I am late."),
        "search": ("look through received mails", "Which mails did I get about {topic}?"),
        "archive": ("put mails about a topic away", "Put all the mails on {topic} out of my sight."),
    },
    "calendar": {
        "create": ("add an event", "Block an hour tomorrow for {topic}."),
        "delete": ("remove an event", "The meeting on {topic} is off, take it out of my week."),
        "list": ("show the events with a person", "When do I see {person} next?"),
    },
    "files": {
        "open": ("show a document", "Let me read the document about {topic}."),
        "share": ("give a person access to a document", "{person} needs to be able to see my report."),
        "rename": ("change a document's title", 'My report should be called "{topic}" from now on.'),
    },
    "music": {
        "play": ("start a song or artist", "I want to hear something by {person}."),
        "queue": ("add a song or artist after the current one", "After this song, continue with {person}."),
        "like": ("mark an artist as a favourite", "{person} is one of my favourite singers, remember that."),
    },
    "travel": {
        "book": ("buy a ticket to a place", "Get me a train ticket to {place}."),
        "cancel": ("give a ticket back", "I am not going to {place} any more, return my ticket."),
        "status": ("tell whether a trip is on time", "Is my train to {place} delayed?"),
    },
    "maps": {
        "route": ("find the way to a place", "How do I get to {place} by car?"),
        "nearby": ("list sights around a place", "What is there to see around {place}?"),
        "save": ("remember a place", "Keep {place} for later, I want to find it on the map again."),
    },
}
"""Toolkit -> action -> (what the action does, a request for it with one argument)."""

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "person": ("Ada", "Bruno", "Chiara", "Dmitri", "Esra", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lena"),
    "topic": ("rent", "budget", "garden", "taxes", "hiring", "roadmap", "holidays", "insurance", "security", "parking"),
    "place": ("Oslo", "Porto", "Lyon", "Graz", "Turin", "Ghent", "Cork", "Bergen", "Malaga", "Krakow", "Basel", "Riga"),
}


class ToolSelection(KindConfig):
    """Settings of the tool-selection benchmark."""

    kind: Literal["tool_selection"] = "tool_selection"
    n: int = Field(default=120, ge=1, le=1000)
    """Tasks; a smaller benchmark is the beginning of a larger one."""
    seed: int = 0
    """Which tasks."""
    n_tools: int = Field(default=6, ge=3, le=18)
    """Actions offered in each task: the right one, its toolkit's two others, and others."""


@register_benchmark("tool_selection", config=ToolSelection)
def tool_selection_tasks(config: ToolSelection) -> list[Task]:
    """The tasks; metadata: `toolkit` and `action`. The toolkits take turns."""
    rng = random.Random(f"tool_selection {config.seed}")
    return number("tool_selection", "tool_calls_match", _drafts(rng, config.n_tools), config.n)


def _drafts(rng: random.Random, n_tools: int) -> Iterator[Draft]:
    while True:
        for toolkit, actions in TOOLKITS.items():
            action = rng.choice(list(actions))
            request = actions[action][1]
            slot = next(name for name in ARGUMENTS if f"{{{name}}}" in request)
            argument = rng.choice(ARGUMENTS[slot])
            yield {
                "instruction": _instruction(request.format(**{slot: argument}), _offer(rng, toolkit, n_tools)),
                "expected": json.dumps({"tool": toolkit, "action": action, "text": argument}),
                "metadata": {"toolkit": toolkit, "action": action},
            }


def _offer(rng: random.Random, toolkit: str, n_tools: int) -> list[str]:
    """The offered actions as lines of text, the right toolkit's among them, shuffled."""
    own = [(toolkit, action) for action in TOOLKITS[toolkit]]
    others = [(other, action) for other in TOOLKITS if other != toolkit for action in TOOLKITS[other]]
    offered = own + rng.sample(others, n_tools - len(own))
    rng.shuffle(offered)
    return [f"- tool {tool}, action {action}: {TOOLKITS[tool][action][0]}" for tool, action in offered]


def _instruction(request: str, offer: list[str]) -> str:
    return "\n".join(
        [
            "Choose the one action that serves the request. Answer with a JSON object only:",
            '{"tool": "...", "action": "...", "text": "the person, topic or place of the request"}',
            "Actions:",
            *offer,
            f"Request: {request}",
        ]
    )
