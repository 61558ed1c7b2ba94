"""What makes two arms the same: the composed config without names and labels."""

from __future__ import annotations

import hashlib

import orjson
from omegaconf import DictConfig, OmegaConf

NOT_IDENTITY = (
    "arm", "group", "name_template", "n_repeats", "base_seed", "experiments", "store", "tracker", "tags", "metadata",
    "resume",
)  # fmt: skip


def config_hash(task: DictConfig) -> str:
    """sha256 over the unresolved config; of the stage before, if there is one, counts what it is and not its name."""
    container = OmegaConf.to_container(task, resolve=False)
    assert isinstance(container, dict)
    content = {key: value for key, value in container.items() if key not in NOT_IDENTITY}
    if content.get("start_from"):
        content["start_from"] = content["start_from"]["hash"]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()
