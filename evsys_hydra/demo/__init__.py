"""The demo that the default config runs: a small pretrained model, training data and benchmarks, all made by code.

`MODEL_DIR` holds the shipped model; `scripts/make_demo_model.py` makes it. Nothing here imports torch.
"""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"

__all__ = ["MODEL_DIR"]
