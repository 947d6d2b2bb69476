"""Data sets by a person's command: added to ``data/``, sent, fetched, checked out, read at a past revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import DataError
from tasks.storage import materialise, place, verify
from tasks.versioning import (
    DATA,
    EMBEDDED,
    PIN,
    check_out,
    data_files,
    folder_md5,
    hash_path,
    keep_in_cache,
    listing,
    opened,
    output,
    pinned_md5,
    read_at,
    remove,
    tree_files,
)

if TYPE_CHECKING:
    from pathlib import Path

    from dvc.repo import Repo


def add(project: Path, path: Path) -> tuple[str, ...]:
    """Copy a file or folder into ``data/`` and version it with DVC; git is left to the user.

    Args:
        project: the working copy.
        path: what to add; what lies in ``data/`` already is versioned as it is.

    Returns:
        The commands that commit it.

    Raises:
        DataError: there is nothing there, another file has its name, or ``data/`` holds other changes.
    """
    source, data = path.resolve(), project.resolve() / DATA
    inside = source.is_relative_to(data)
    if not source.exists() or source == data:
        found = "nothing" if source != data else f"{DATA}/ itself"
        raise DataError(str(path), found=found, expected="a file or folder", remedy="Name one.")
    if not data.exists():
        materialise(project)
    name = source.relative_to(data).parts[0] if inside else source.name
    target = data / name
    with opened(project, quiet=True) as repo:
        _refuse_other_changes(repo, name)
        fresh = not inside and not target.exists()
        if not inside and not fresh and hash_path(repo, target) != hash_path(repo, source):
            raise DataError(
                f"{DATA}/{name}", found="another file or folder of that name", expected="the same bytes, or none",
                remedy="Rename yours, or delete that one first.",
            )  # fmt: skip
        if fresh:
            place(project, source, target)
        try:
            repo.add(str(data))
        except BaseException:
            if fresh:
                remove(target)
            raise
    verify(project)
    return (f"git add {PIN}", f'git commit -m "Pin data with {name}"')


def push(project: Path) -> int:
    """Send the pinned data to the configured remote; give the number of files sent.

    Raises:
        DataError: ``data/`` is not what is pinned, or there is no remote, or it does not answer.
    """
    verify(project)
    with opened(project, quiet=True) as repo:
        keep_in_cache(repo)
        return int(repo.push(targets=[str(project.resolve() / PIN)]))


def pull(project: Path) -> int:
    """Fetch what ``data.dvc`` pins from the configured remote into ``data/``; give the number of files fetched.

    Raises:
        DataError: neither remote nor cache has the data, or ``data/`` holds something that would be lost.
    """
    with opened(project, quiet=True) as repo:
        count = int(repo.fetch(targets=[str(project.resolve() / PIN)]))
    checkout(project)
    return count


def checkout(project: Path) -> str:
    """Make ``data/`` what ``data.dvc`` pins, from the cache or the remote; give the md5.

    Raises:
        DataError: neither has it, or ``data/`` holds something that would be lost.
    """
    with opened(project, quiet=True) as repo:
        present = data_files(repo) or {}
        if folder_md5(present) != pinned_md5(repo):
            check_out(repo, present, listing(repo, project / EMBEDDED) or {})
    return verify(project)


def read_revision(project: Path, revision: str, path: str, out: Path) -> Path:
    """Copy a file or folder of ``data/`` as it was at a past git revision to ``out``; the working copy is untouched.

    It comes from DVC's cache or remote, or from the files embedded at that revision where they alone were the data.
    All of it appears at once, or nothing.

    Raises:
        DataError: ``out`` exists, the path leads out of ``data/``, there is no such revision or path, or the data is
            in none of these places.
    """
    read_at(project, revision, path, out)
    return out


def _refuse_other_changes(repo: Repo, name: str) -> None:
    """Refuse to pin along what nobody named.

    Raises:
        DataError: ``data/`` differs from the pinned folder in other places than this one.
    """
    pinned, tree = pinned_md5(repo), output(repo).get_dir_cache()
    rest = {path: md5 for path, md5 in (data_files(repo) or {}).items() if path[0] != name}
    if tree is None:
        same, changed = folder_md5(rest) == pinned or folder_md5(data_files(repo) or {}) == pinned, ["not known which"]
    else:
        before = {path: md5 for path, md5 in tree_files(tree).items() if path[0] != name}
        same, changed = rest == before, sorted({"/".join(path) for path, _ in rest.items() ^ before.items()})
    if not same:
        raise DataError(
            f"{DATA}/", found=f"other changes beside {name}: {', '.join(changed[:5])}", expected="none",
            remedy="Undo them with `holdfast data pull` or `dvc checkout`, or add each by its name first.",
        )  # fmt: skip
