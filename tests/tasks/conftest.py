"""A project's data files, to materialise, change and pin."""

import shutil
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
TRACKED = ("data.dvc", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore")


@pytest.fixture
def tarball(tmp_path):
    """The project's data files as an archive holds them: no git, no cache, no data/."""
    project = tmp_path / "project"
    for name in TRACKED:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, project / name)
    shutil.copytree(TOP / "embedded", project / "embedded")
    return project
