"""The example page, for every test of the report."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def example():
    """The module that builds the example page; also a script that writes it for the eye."""
    spec = importlib.util.spec_from_file_location("example_page", Path(__file__).parent / "example_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def page(example):
    return example.example_page()
