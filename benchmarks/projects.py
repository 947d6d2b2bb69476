"""A project of its own for a benchmark: params, profiles, embedded data and its pin, as a clone has them."""

from __future__ import annotations

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
_FILES = ("params.yaml", "data.dvc", ".dvcignore", ".dvc/config", ".dvc/.gitignore")


def make(folder: Path) -> None:
    """Make a project in a folder, where there is none yet."""
    if (folder / "params.yaml").exists():
        return
    (folder / ".dvc").mkdir(parents=True)
    for name in ("profiles", "embedded"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in reversed(_FILES):  # params.yaml last: it says that the rest is there
        shutil.copy(REPOSITORY / name, folder / name)
