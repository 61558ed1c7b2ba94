"""The API client against a real OpenAI-compatible server, `transformers serve`, on the demo model."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from evsys_hydra import BenchmarkConfig
from evsys_hydra.benchmark import Benchmark, score
from evsys_hydra.inference.api import ApiClient, ApiInference

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Its base URL, and the model's name there."""
    pytest.importorskip("fastapi", reason="needs fastapi and openai: pip install 'transformers[serving]'")
    from evsys_hydra.demo import MODEL_DIR

    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    assert command is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [command, "serve", str(MODEL_DIR), "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    with (tmp_path / "serve.log").open("w") as log:
        process = subprocess.Popen([*words, "--device", "cpu"], stdout=log, stderr=log, env=os.environ)
    try:
        give_up = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < give_up, (tmp_path / "serve.log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(MODEL_DIR)
    finally:
        process.kill()
        process.wait()


def test_the_same_answers_as_the_local_engine(server: tuple[str, str]) -> None:
    from evsys_hydra.config import ModelConfig
    from evsys_hydra.inference.local import LocalClient
    from evsys_hydra.models import load_model

    url, model = server
    entry = BenchmarkConfig.model_validate({"generate": {"kind": "demo", "n": 16}, "max_tokens": 32})
    benchmark = Benchmark.load(entry)
    client = ApiClient(ApiInference(model=model, base_url=url, key_env=None, concurrency=4, timeout_s=60))
    remote = score(benchmark, client, entry)
    local = score(benchmark, LocalClient(*load_model(ModelConfig(name="demo", dtype="float32"))), entry)
    assert remote.metrics == local.metrics and remote.metrics["n_errors"] == 0
    for far, near in zip(remote.predictions, local.predictions, strict=True):
        assert far["output"] == near["output"]
        for count in ("prompt_tokens", "completion_tokens"):
            assert far["metadata"][count] == near["metadata"][count]
