"""Claim: on existing stores, orchestration (Prefect, MLflow, GX, DVC, ledger, report) costs a run at most 30 s.

Three runs of the ``tiny`` profile, or of the one that ``--params`` names, in a project of their own: on fresh stores,
then on existing stores with another seed, so that everything is trained, registered and judged anew, then with nothing
changed. Every moment of a run's wall time is given to one part: a moment in which science is under way is science's,
whatever else happens beside it; any other is orchestration's, the start of Python and the imports included: what the
run would take less if nothing orchestrated it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_SECONDS = 30
REPOSITORY = Path(__file__).parents[1]
SCIENCE = "science"
# The first part under way at a moment gets it: what is inside something else comes before it.
PARTS = {
    "GX": ["holdfast.integrity.schema:ask", "holdfast.integrity.schema:write_docs"],
    SCIENCE: [
        "tasks.integrity:run_checks", "tasks.training:fit", "tasks.recovery:decide", "tasks.storage:load",
        "holdfast.scenarios.base:OnModel.run", "holdfast.scenarios.base:OnRecipe.run",
    ],
    "MLflow": [
        f"tasks.tracking:{name}"
        for name in (
            "prepare", "experiment", "open_run", "close_run", "log_snapshot", "log_params", "log_history",
            "log_finding", "log_text", "register", "find_version", "get_version", "list_versions", "version_tags",
            "tag_version", "fetch_model", "MlflowProjection.read", "MlflowProjection.write",
        )
    ],
    "DVC": [
        "tasks.integrity:materialise", "tasks.integrity:snapshot", "tasks.storage:verify", "tasks.storage:revision",
    ],
    "ledger": ["tasks.recovery:promote", "tasks.recovery:recover", "holdfast.recovery.ledger:Ledger.append"],
    "report": ["tasks.publishing:render", "tasks.publishing:markdown", "tasks.publishing:create_markdown_artifact"],
    "Prefect server": ["server"],
    "Prefect flows and tasks, and the rest": ["flow"],
    "Python, imports, params": ["process"],
}  # fmt: skip
STAGES = ("settle", "integrity", "begin", "training", "evaluation", "promotion", "publish", "finish")
Span = tuple[str, float, float]


class Recorder:
    """Spans of named functions, from every thread."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._lock = threading.Lock()

    def wrap(self, target: str, label: str) -> None:
        """Replace ``module:name`` by one whose calls are recorded under a label."""
        module, _, path = target.partition(":")
        owner: Any = importlib.import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, self.timed(getattr(owner, name), label))

    def timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """Record each call of a function."""

        @functools.wraps(function, updated=())
        def timed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  as the function's
            with self.span(label):
                return function(*arguments, **named)

        return timed

    @contextmanager
    def span(self, label: str) -> Iterator[None]:
        """Record what happens inside."""
        start = time.time()
        try:
            yield
        finally:
            with self._lock:
                self.spans.append((label, start, time.time()))


def measured(out: Path) -> None:
    """Run the command line in this process and write its spans."""
    import flows.session as command_session  # noqa: PLC0415  the benchmark itself needs none of it
    from flows.cli import main as command_line  # noqa: PLC0415

    recorder, original = Recorder(), command_session.prefect_server

    @contextmanager
    def server(stores: Any) -> Iterator[str]:  # noqa: ANN401  as the original's
        context = original(stores)
        with recorder.span("server"):
            url = context.__enter__()
        try:
            for functions in PARTS.values():
                for target in functions:
                    if ":" in target:
                        recorder.wrap(target, target)
            for stage in STAGES:
                recorder.wrap(f"flows.lifecycle:{stage}", f"stage {stage}")
            with recorder.span("flow"):
                yield url
        finally:
            with recorder.span("server"):
                context.__exit__(None, None, None)

    command_session.prefect_server = server
    try:
        command_line()
    finally:
        out.write_text(json.dumps(recorder.spans))


def split(spans: list[Span], parts: dict[str, list[str]], start: float, end: float) -> dict[str, float]:
    """Give every moment between start and end to the first part that is under way."""
    owner = {label: part for part, labels in parts.items() for label in labels}
    order, seconds = {part: place for place, part in enumerate(parts)}, dict.fromkeys(parts, 0.0)
    moments = sorted({start, end, *(moment for _, first, last in spans for moment in (first, last))})
    named = [(order[owner[label]], owner[label], first, last) for label, first, last in spans if label in owner]
    for first, last in itertools.pairwise(moments):
        under_way = [(place, part) for place, part, begin, finish in named if begin <= first and finish >= last]
        if under_way:
            seconds[min(under_way)[1]] += last - first
    return seconds


def one_run(project: Path, profile: str, *knobs: str) -> tuple[list[Span], float, float]:
    """Run the lifecycle once, in a process of its own; give spans, start and end."""
    out = project / "spans.json"
    command = (
        sys.executable, __file__, "--measured", str(out), "run", "--params", profile, *knobs
    )  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    before, start = _processor_seconds(), time.time()
    done = subprocess.run(command, cwd=project, env=environment, check=False, capture_output=True, text=True)
    end = time.time()
    if done.returncode not in {0, 10}:
        sys.exit(done.stderr)
    # On a machine with other work the wall says little: the processor time tells.
    print(
        f"{_processor_seconds() - before:.1f} s of processor time, the server's included; load {os.getloadavg()[0]:.1f}"
    )
    spans = [(label, first, last) for label, first, last in json.loads(out.read_text())]
    return [*spans, ("process", start, end)], start, end


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(title: str, spans: list[Span], start: float, end: float) -> float:
    """Print one run's split; give what orchestration took."""
    parts = split(spans, PARTS, start, end)
    stages = split(spans, {stage: [f"stage {stage}"] for stage in STAGES}, start, end)
    orchestration = sum(parts.values()) - parts[SCIENCE]
    print(f"{title}: {end - start:.1f} s = science {parts[SCIENCE]:.1f} s + orchestration {orchestration:.1f} s")
    for part, seconds in parts.items():
        if part != SCIENCE:
            print(f"    {part:<40}{seconds:6.1f} s")
    for stage, seconds in stages.items():
        inside = [span for span in spans if span[0] in PARTS[SCIENCE] and _within(span, spans, f"stage {stage}")]
        science = split(inside, {SCIENCE: PARTS[SCIENCE]}, start, end)[SCIENCE]
        print(f"    stage {stage:<12}{seconds:6.1f} s, science {science:5.1f} s")
    return orchestration


def _within(span: Span, spans: list[Span], stage: str) -> bool:
    return any(label == stage and first <= span[1] and span[2] <= last for label, first, last in spans)


def main() -> None:
    """Measure the three runs, and fail when the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--params", default="profiles/tiny.yaml", help="profile that is run; params.yaml for the default"
    )
    profile = parser.parse_args().params
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        (project / ".dvc").mkdir(parents=True)
        for name in ("params.yaml", "data.dvc", ".dvcignore", ".dvc/config"):
            shutil.copy(REPOSITORY / name, project / name)
        for name in ("profiles", "embedded"):
            shutil.copytree(REPOSITORY / name, project / name)
        show("fresh stores", *one_run(project, profile))
        ours = show("existing stores, another seed", *one_run(project, profile, "--set", "seed=8"))
        show("existing stores, nothing changed", *one_run(project, profile, "--set", "seed=8"))
    print(
        f"orchestration on existing stores: {ours:.1f} s; claim: at most {LIMIT_SECONDS} s; {ours / LIMIT_SECONDS:.2f}"
    )
    sys.exit(0 if ours <= LIMIT_SECONDS else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measured"]:
        target = Path(sys.argv[2])
        sys.argv = ["holdfast", *sys.argv[3:]]
        measured(target)
    else:
        main()
