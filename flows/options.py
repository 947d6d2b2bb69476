"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overlay = Annotated[
    list[Path] | None, typer.Option("--params", help="Overlay of params.yaml, such as profiles/fashion.yaml.")
]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="One knob: --set training.settings.epochs=3.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; progress stays on stderr.")]
