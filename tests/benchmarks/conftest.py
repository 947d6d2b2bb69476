"""Benchmarks as modules: they are scripts that import each other by name."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(request, monkeypatch):
    """Import the benchmark that a test file is named for."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module(request.path.stem.removeprefix("test_"))
