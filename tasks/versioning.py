"""DVC, and only here: what ``data.dvc`` pins, what lies in ``data/``, and how one becomes the other."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.fs import LocalFileSystem
from dvc.repo import Repo
from dvc.scm import SCM, NoSCM, SCMError
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.tree import Tree
from dvc_data.index import DataIndexDirError
from dvc_objects.errors import ObjectFormatError
from scmrepo.exceptions import SCMError as GitError

from holdfast.errors import DataError
from holdfast.stores import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA, PIN, EMBEDDED = "data", "data.dvc", "embedded"
NO_REVISION = "none"
DIRTY = "-dirty"
"""Follows a commit from which tracked files differ, as ``git describe --dirty`` says it."""
_FAILURES = (DvcException, DataIndexDirError, ObjectFormatError, OSError)
Files = dict[tuple[str, ...], str]
"""md5 by path below a folder."""


@contextmanager
def opened(project: Path, *, quiet: bool = False) -> Iterator[Repo]:
    """Open the project's DVC repository, with git or without; DVC's own words go to stderr where ``quiet``."""
    core: dict[str, Any] = {"site_cache_dir": str(project.resolve() / ".dvc" / "tmp")}
    with translated(project):
        if not (project / PIN).is_file() or not (project / ".dvc").is_dir():
            raise DataError(
                str(project), found="no data.dvc and .dvc/ here", expected="a Holdfast project",
                remedy="Run from the top folder of the project.",
            )  # fmt: skip
        try:
            SCM(str(project)).close()
        except SCMError:
            core["no_scm"] = True
        repo = Repo(str(project), config={"core": core})
        repo.scm_context.quiet = True  # what to commit is said once, by us
        try:
            if {"hardlink", "symlink"} & set(repo.config["cache"].get("type") or ()):
                raise DataError(
                    ".dvc/config", found=f"cache.type {repo.config['cache']['type']}", expected="reflink,copy",
                    remedy="Unset cache.type: with links, a write into data/ changes the cache.",
                )  # fmt: skip
            if quiet:
                with redirect_stdout(sys.stderr):
                    yield repo
            else:
                yield repo
        finally:
            repo.close()


@contextmanager
def translated(project: Path) -> Iterator[None]:
    """Turn the errors of DVC and of the disk into ours."""
    try:
        yield
    except _FAILURES as error:
        raise DataError(
            f"DVC in {project}", found=words(error), expected="DVC to do as asked",
            remedy="Mend what it names (`dvc doctor`, `dvc remote list`); nothing was pinned or committed.",
        ) from error  # fmt: skip


def file_system(revision: str, project: Path = Path(), md5: str = "") -> DVCFileSystem:
    """Open the data of a past git revision, or of the working copy where the revision is ``none``, read-only.

    Args:
        revision: a git revision, or one as `tasks.storage.revision` gives it.
        project: the top folder.
        md5: of ``data/`` as recorded beside the revision: tells whether a dirty one's commit has that very data.

    Raises:
        DataError: there is no such revision, or nothing shows that the data was ever committed.
    """
    commit = revision.removesuffix(DIRTY)
    with translated(project):
        if revision == NO_REVISION:
            return DVCFileSystem(str(project))
        system = DVCFileSystem(str(project), rev=commit)
        if commit != revision and (not md5 or _pinned_by(system) != md5):
            raise DataError(
                revision, found="files that were not committed, maybe the data's pin", expected="a git revision",
                remedy=f"Where {commit} pins the md5 that the ledger names, read that; else DVC's cache or remote"
                " holds the data by its md5.",
            )  # fmt: skip
        return system


def git_revision(repo: Repo) -> str:
    """Give the commit that the working copy is at, see `tasks.storage.revision`."""
    if isinstance(repo.scm, NoSCM):
        return NO_REVISION
    project, root = Path(repo.root_dir).resolve(), Path(repo.scm.root_dir).resolve()
    try:
        commit = str(repo.scm.get_rev())
        pinned = repo.scm.get_fs(commit).isfile((project / PIN).relative_to(root).as_posix())
    except (SCMError, GitError):
        return NO_REVISION
    if not pinned and root != project:  # a copy inside somebody else's repository belongs to none of its commits
        return NO_REVISION
    return commit if pinned and not repo.scm.is_dirty(untracked_files=False) else f"{commit}{DIRTY}"


def read_at(project: Path, revision: str, path: str, out: Path) -> None:
    """Copy a file or folder of ``data/`` out of a revision, see `tasks.datasets.read_revision`."""
    place = _below_data(path)
    _refuse_existing(out)
    system = file_system(revision, project)
    try:
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as folder:
            part = Path(folder) / "part"
            _fetch(system, revision, place, part)
            _refuse_existing(out)  # it may have come meanwhile
            part.rename(out)
    except OSError as error:
        raise DataError(
            str(out), found=words(error), expected="a place that can be written", remedy="Name another with --out.",
        ) from error  # fmt: skip


def _below_data(path: str) -> str:
    """Give the place of a path inside the project.

    Raises:
        DataError: it leads out of ``data/``.
    """
    named = PurePosixPath(path)
    if named.parts[:1] == (DATA,) and len(named.parts) > 1:  # as people see it in the tree
        named = PurePosixPath(*named.parts[1:])
    if not path or named.is_absolute() or ".." in named.parts or Path(path).is_absolute():
        raise DataError(
            f"path {path!r}", found="a path that leads elsewhere", expected=f"one below {DATA}/, without '..'",
            remedy=f"Name a file or folder as it lies below {DATA}/.",
        )  # fmt: skip
    return (PurePosixPath(DATA) / named).as_posix()


def _refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink() or not out.absolute().parent.is_dir():
        raise DataError(
            str(out), found="it is there already" if out.absolute().parent.is_dir() else "no folder to put it into",
            expected="a path that does not exist, in a folder that does",
            remedy="Name another with --out; nothing was written.",
        )  # fmt: skip


def _fetch(system: DVCFileSystem, revision: str, place: str, part: Path) -> None:
    """Copy from DVC's cache or remote, else from the embedded files of that revision.

    Raises:
        DataError: neither has it.
    """
    try:
        with redirect_stdout(sys.stderr):
            system.get(place, str(part), recursive=system.isdir(place))
    except _FAILURES as error:
        remove(part)
        if not _restore_embedded(system, place.removeprefix(f"{DATA}/"), part):
            raise DataError(
                f"{place} at {revision}", found=words(error), expected="data in DVC's cache or remote",
                remedy="Configure the remote that holds it (`dvc remote add`), and see that the path is right.",
            ) from error  # fmt: skip


def _pinned_by(system: DVCFileSystem) -> str:
    """Read the md5 that a revision's data.dvc pins; empty where it has none."""
    return str(yaml.safe_load(system.read_bytes(PIN))["outs"][0]["md5"]) if system.isfile(PIN) else ""


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _restore_embedded(system: DVCFileSystem, path: str, out: Path) -> bool:
    """Copy a file embedded at that revision, where the embedded files are what its ``data.dvc`` pins."""
    if not system.isfile(f"{EMBEDDED}/{path}"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        for name in system.ls(EMBEDDED, detail=False):
            Path(folder, Path(name).name).write_bytes(system.read_bytes(name))
        if folder_md5(tree_files(_build(Path(folder), None))) != _pinned_by(system):
            return False
        shutil.copy(Path(folder, path), out)
    return True


def pinned_md5(repo: Repo) -> str:
    """Read the md5 that data.dvc pins."""
    try:
        out = yaml.safe_load((Path(repo.root_dir) / PIN).read_text())["outs"][0]
        md5, sound = str(out["md5"]), out["path"] == DATA
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise _bad_pin(words(error)) from error
    if not sound or not md5.endswith(".dir"):
        raise _bad_pin(f"{md5} of {out['path']}")
    return md5


def _bad_pin(found: str) -> DataError:
    return DataError(
        PIN,
        found=found,
        expected=f"the md5 of the folder {DATA}/",
        remedy="Restore the file: `git checkout -- data.dvc`.",
    )


def _build(path: Path, repo: Repo | None) -> Any:  # noqa: ANN401  DVC has no types
    """Hash a file or folder by its bytes, as DVC does; the object database is a name only, and keeps no state."""
    odb = HashFileDB(LocalFileSystem(), str(path.parent / ".none"))
    ignore = None if repo is None else repo.dvcignore
    return build(odb, str(path.resolve()), odb.fs, "md5", ignore=ignore, dry_run=True)[2]


def hash_path(repo: Repo, path: Path) -> str:
    """Give the md5 of a file, or of a folder with ``.dir`` behind it."""
    return str(_build(path, repo).hash_info.value)


def tree_files(tree: Tree) -> Files:
    """List the files of a DVC folder."""
    return {tuple(key): str(info.value) for key, _, info in tree}


def listing(repo: Repo, folder: Path) -> Files | None:
    """List the files of a folder as they are; None where there is none."""
    return tree_files(_build(folder, repo)) if folder.is_dir() else None


def data_files(repo: Repo) -> Files | None:
    """List the files of ``data/`` as they are; None where there is none."""
    return listing(repo, Path(repo.root_dir) / DATA)


def folder_md5(files: Files) -> str:
    """Name a set of files as DVC names a folder."""
    tree = Tree.from_list([{"md5": md5, "relpath": "/".join(path)} for path, md5 in files.items()], hash_name="md5")
    tree.digest()
    return str(tree.hash_info.value)


def _pin(repo: Repo) -> str:
    return str(Path(repo.root_dir) / PIN)


def output(repo: Repo) -> Any:  # noqa: ANN401  DVC has no types
    """Give DVC's own view of ``data/``."""
    return repo.stage.load_one(_pin(repo)).outs[0]


def pinned_objects(repo: Repo) -> frozenset[str]:
    """Name the objects of the pinned data, as far as the cache knows them."""
    tree = output(repo).get_dir_cache()
    return frozenset({pinned_md5(repo), *(() if tree is None else tree_files(tree).values())})


def keep_in_cache(repo: Repo) -> None:
    """Put the verified folder into DVC's cache, so that push and checkout find it; data.dvc is not written."""
    ours = output(repo)
    if ours.changed_cache():
        ours.commit(relink=False)


@contextmanager
def under_way(repo: Repo, files: Files) -> Iterator[None]:
    """Put on record which files are about to come into ``data/``, until they are pinned or gone again.

    Whatever is killed inside, the next start knows them for nobody's work, and puts back what is pinned.
    """
    record = _record(repo)
    write_atomically(record, json.dumps({"/".join(path): md5 for path, md5 in files.items()}))
    yield
    record.unlink()


def _begun(repo: Repo) -> Files:
    """Give the files of a pin that was cut off."""
    record = _record(repo)
    told = json.loads(record.read_text()) if record.exists() else {}
    return {tuple(path.split("/")): str(md5) for path, md5 in told.items()}


def _record(repo: Repo) -> Path:
    return Path(repo.root_dir) / ".dvc" / "tmp" / "pin-under-way.json"


def _unpinned(path: tuple[str, ...], md5: str, pinned: Files) -> str:
    """Say what is wrong with a file: other bytes than pinned, or no pin at all."""
    name = "/".join(path)
    if path in pinned:
        return f"the bytes of {name} are not the pinned ones (md5 {md5}, pinned {pinned[path]})"
    return f"{name}, which {PIN} does not pin"


def check_out(repo: Repo, present: Files, embedded: Files) -> None:
    """Let DVC restore the folder, if all that lies there now can be had again.

    Raises:
        DataError: it cannot, or neither cache nor remote has the data.
    """
    tree = output(repo).get_dir_cache()
    known = set() if tree is None else set(tree_files(tree).items())
    sound = known | set(embedded.items()) | set(_begun(repo).items())
    unknown = {path: md5 for path, md5 in present.items() if (path, md5) not in sound}
    if unknown:
        raise DataError(
            f"{DATA}/", found="; ".join(_unpinned(path, md5, dict(known)) for path, md5 in sorted(unknown.items())[:5]),
            expected=f"the files of md5 {pinned_md5(repo)}, as {PIN} pins; nothing was overwritten",
            remedy=f"Not your doing: move the file away and run `holdfast data` for the pinned one. Yours:"
            f" `holdfast data add {DATA}/FILE` pins it, on record in git.",
        )  # fmt: skip
    try:
        with redirect_stdout(sys.stderr):
            if tree is None or output(repo).changed_cache():
                repo.fetch(targets=[_pin(repo)])
            repo.checkout(targets=[_pin(repo)], force=True)
        _record(repo).unlink(missing_ok=True)
    except _FAILURES as error:
        raise DataError(
            f"{DATA}/", found=f"no copy of md5 {pinned_md5(repo)} ({words(error)})",
            expected=f"it in {EMBEDDED}/, in DVC's cache or in its remote",
            remedy="Configure the remote that holds it (`dvc remote add --default NAME URL`) and `holdfast data pull`.",
        ) from error  # fmt: skip


def words(error: Exception) -> str:
    """Give the first line of an error."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
