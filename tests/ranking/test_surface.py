"""What the package offers, and what importing it must not load."""

import subprocess
import sys

import evsys_hydra.ranking as ranking


def test_exported_names() -> None:
    assert sorted(ranking.__all__) == ranking.__all__
    assert set(ranking.__all__) == {
        "TableError",
        "breakdown",
        "detectable",
        "forest_plot",
        "highest_arm",
        "pass_at_k",
        "rank",
        "ranking_rows",
        "write_conclusion",
    }
    assert all(hasattr(ranking, name) for name in ranking.__all__)


def test_importing_the_ranking_needs_numpy_and_scipy_only() -> None:
    code = (
        "import sys, evsys_hydra.ranking; "
        "print([m for m in ('hydra', 'omegaconf', 'torch', 'transformers', 'pydantic', 'matplotlib', 'scipy.stats')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
