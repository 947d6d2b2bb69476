"""The cache: what was computed by other code or other params is computed again, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import holdfast


def test_an_edited_library_function_misses_the_cache(champion: Any, tmp_path: Path) -> None:
    """A change of one function of the library trains and evaluates anew, and registers a second version."""
    package = tmp_path / "library" / "holdfast"
    shutil.copytree(Path(holdfast.__file__).parent, package)
    changed = package / "statistics" / "intervals.py"
    changed.write_text(changed.read_text() + "\n# One more line.\n")
    done = champion.run("--json", expect=None, PYTHONPATH=str(package.parent))
    assert done.code in {0, 10}
    assert "epoch 1/2" in done.words
    assert "reused" not in done.words
    assert done.document["decision"]["candidate"]["version"] == 2


def test_another_section_of_params_reuses_the_training(champion: Any) -> None:
    """Another margin of the gate trains nothing and registers nothing."""
    done = champion.run("--json", "--set", "recovery.gates.non_inferiority.probes/quality=0.19")
    assert "epoch" not in done.words
    assert done.document["decision"]["candidate"]["version"] == 1
    champion.hold()
