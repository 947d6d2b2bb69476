"""Data with DVC: materialised, verified, versioned, restored, and refused when it is not what is pinned."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo
from pydantic import SecretStr

from holdfast.data.params import DataParams
from holdfast.errors import DataError
from holdfast.stores import Stores
from tasks import datasets, storage, versioning
from tasks.tracking.runs import DvcSource

TOP = Path(__file__).parents[2]


def git(project, *words):
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *words], cwd=project, check=True, capture_output=True, text=True).stdout


def people(folder, n=400, shift=0):
    frame = pd.DataFrame(
        {"age": [i + shift for i in range(n)], "town": ["Ulm", "Bonn"] * (n // 2), "left": [0, 0, 1, 1] * (n // 4)}
    )
    frame.to_csv(folder / "people.csv", index=False)
    return folder / "people.csv"


@pytest.fixture
def clone(tarball):
    """The same under git, everything committed."""
    git(tarball, "init", "-q", "-b", "main")
    git(tarball, "add", "-A")
    git(tarball, "commit", "-q", "-m", "first")
    return tarball


def pin(project):
    return yaml.safe_load((project / "data.dvc").read_text())["outs"][0]["md5"]


class Params:
    """What a snapshot reads of params."""

    name = "people"
    data = DataParams(
        kind="table", path="people.csv", label="left", roles={"train": 0.6, "validation": 0.2, "gate": 0.2}
    )


def stores(project):
    return Stores(project=project, root=project / ".holdfast", tracking=SecretStr(""), ledger=SecretStr(""))


def test_dvc_itself_agrees(clone):
    """What is materialised has the md5 that DVC's own repository computes, and DVC sees nothing to do."""
    assert storage.materialise(clone) == pin(clone)
    repo = Repo(str(clone))
    assert repo.status(targets=[str(clone / "data.dvc")]) == {}
    repo.close()


def test_without_dvc_there_is_no_storage():
    """The product really stands on DVC: with the package off the path, storage cannot be imported."""
    blocked = "import sys; sys.modules['dvc'] = None; sys.modules['dvc.repo'] = None; import tasks.storage"
    done = subprocess.run([sys.executable, "-c", blocked], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "dvc" in done.stderr.splitlines()[-1]


def test_a_fresh_clone_materialises_without_a_remote(clone):
    """Embedded files arrive byte for byte, twice is as once, and git sees no change."""
    assert storage.materialise(clone) == storage.materialise(clone) == pin(clone)
    for file in (clone / "embedded").iterdir():
        assert (clone / "data" / file.name).read_bytes() == file.read_bytes()
    assert git(clone, "status", "--porcelain") == ""
    assert storage.revision(clone) == git(clone, "rev-parse", "HEAD").strip()


def test_a_tarball_works_and_says_none(tarball):
    """Without git the data is materialised and verified, and its revision is ``none``."""
    assert storage.materialise(tarball) == pin(tarball)
    assert storage.revision(tarball) == "none"


def test_a_tarball_inside_another_repository_says_none(tarball):
    """A copy inside somebody else's working copy does not borrow that one's commit."""
    git(tarball.parent, "init", "-q")
    (tarball.parent / "x").write_text("x")
    git(tarball.parent, "add", "x")
    git(tarball.parent, "commit", "-q", "-m", "theirs")
    assert storage.materialise(tarball) == pin(tarball)
    assert storage.revision(tarball) == "none"


def test_any_tracked_change_makes_the_revision_dirty(clone):
    """Edited, staged or deleted files that git knows are said as ``git describe`` says them; other files are not."""
    (clone / "params.yaml").write_text("seed: 1\n")
    git(clone, "add", "params.yaml")
    git(clone, "commit", "-q", "-m", "settings")
    head = git(clone, "rev-parse", "HEAD").strip()
    (clone / "notes.txt").write_text("untracked")
    (clone / "data").mkdir()
    (clone / "data" / "ignored").write_text("ignored")
    assert storage.revision(clone) == head
    (clone / "params.yaml").write_text("seed: 2\n")
    assert storage.revision(clone) == f"{head}-dirty"
    assert git(clone, "describe", "--always", "--dirty", "--abbrev=40").strip() == f"{head}-dirty"
    git(clone, "add", "params.yaml")
    assert storage.revision(clone) == f"{head}-dirty"
    git(clone, "checkout", "-q", "HEAD", "--", "params.yaml")
    assert storage.revision(clone) == head
    (clone / "params.yaml").unlink()
    assert storage.revision(clone) == f"{head}-dirty"


def test_git_without_a_commit_says_none(tarball):
    """Before the first commit there is no revision."""
    git(tarball, "init", "-q")
    assert storage.revision(tarball) == "none"


def test_a_dirty_revision_leads_to_the_data_that_its_commit_pins(clone, tmp_path, monkeypatch):
    """With its md5 recorded beside it, data that was committed is found though other files were not."""
    storage.materialise(clone)
    (clone / ".gitignore").write_text((clone / ".gitignore").read_text() + "more\n")
    dirty = storage.revision(clone)
    assert dirty.endswith("-dirty")
    assert versioning.file_system(dirty, clone, pin(clone)).isfile("data/sba_loans_small.parquet")
    before = pin(clone)
    datasets.add(clone, people(tmp_path))
    for md5 in (pin(clone), ""):
        with pytest.raises(DataError, match="not committed"):
            versioning.file_system(dirty, clone, md5)
    assert versioning.file_system(dirty, clone, before).isfile("data/sba_loans_small.parquet")
    monkeypatch.chdir(clone)
    assert DvcSource("data/sba_loans_small.parquet", before, dirty).load().isfile("data/sba_loans_small.parquet")


def test_changed_bytes_are_refused_and_left_alone(clone):
    """One flipped byte, size and times kept, is found; neither data nor pin are touched."""
    storage.materialise(clone)
    file = clone / "data" / "sba_loans_small.parquet"
    storage.verify(clone)
    times, content = file.stat(), bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    before = (clone / "data.dvc").read_bytes()
    for act in (storage.verify, storage.materialise, datasets.push, datasets.pull, datasets.checkout):
        with pytest.raises(DataError):
            act(clone)
    with pytest.raises(DataError, match=r"the bytes of sba_loans_small\.parquet are not the pinned ones"):
        storage.materialise(clone)
    (clone / "data" / "mine.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"mine\.csv, which data\.dvc does not pin"):
        storage.materialise(clone)
    (clone / "data" / "mine.csv").unlink()
    assert file.read_bytes() == content
    assert (clone / "data.dvc").read_bytes() == before


def test_a_wrong_pin_is_refused(clone):
    """A data.dvc with another md5, or with none, is an error, and is not written."""
    storage.materialise(clone)
    text = (clone / "data.dvc").read_text()
    (clone / "data.dvc").write_text(text.replace(pin(clone), "0" * 32 + ".dir"))
    with pytest.raises(DataError, match="expected md5 0000"):
        storage.verify(clone)
    with pytest.raises(DataError, match=r"embedded/, in DVC's cache|does not pin"):
        storage.materialise(clone)
    (clone / "data.dvc").write_text("outs: []\n")
    with pytest.raises(DataError, match=r"data\.dvc"):
        storage.verify(clone)


def test_missing_files_come_back(clone):
    """A deleted embedded file is restored from ``embedded/``, and a deleted folder from it or the cache."""
    storage.materialise(clone)
    (clone / "data" / "sba_loans_small.parquet").unlink()
    with pytest.raises(DataError):
        storage.verify(clone)
    assert storage.materialise(clone) == pin(clone)
    shutil.rmtree(clone / "data")
    shutil.rmtree(clone / "embedded")
    assert storage.materialise(clone) == pin(clone)


def test_a_users_file_is_added_and_git_is_theirs(clone, tmp_path, caplog):
    """``add`` copies, pins, says what to commit, commits nothing, and what it says makes the tree clean."""
    storage.materialise(clone)
    before, head = pin(clone), git(clone, "rev-parse", "HEAD")
    with caplog.at_level("INFO", "dvc"):
        commands = datasets.add(clone, people(tmp_path))
    assert "auto staging" not in caplog.text  # DVC's own advice: what to commit is said once
    assert pin(clone) != before
    assert storage.verify(clone) == pin(clone)
    assert git(clone, "rev-parse", "HEAD") == head
    assert storage.revision(clone) == f"{head.strip()}-dirty"
    assert commands == ("git add data.dvc", 'git commit -m "Pin data with people.csv"')
    git(clone, "add", "data.dvc")
    git(clone, "commit", "-q", "-m", "pin")
    assert git(clone, "status", "--porcelain") == ""
    assert storage.revision(clone) == git(clone, "rev-parse", "HEAD").strip()


def test_add_refuses_what_nobody_named(clone, tmp_path):
    """Another file of the name, other changes in data/, and nothing at all are refused, and nothing is pinned."""
    datasets.add(clone, people(tmp_path))
    before = pin(clone)
    with pytest.raises(DataError, match="another file or folder of that name"):
        datasets.add(clone, people(tmp_path, shift=1))
    with pytest.raises(DataError, match="found nothing"):
        datasets.add(clone, tmp_path / "none.csv")
    (clone / "data" / "sba_loans_small.parquet").write_bytes(b"tampered")
    (tmp_path / "more.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"other changes beside more\.csv: sba_loans_small\.parquet"):
        datasets.add(clone, tmp_path / "more.csv")
    assert pin(clone) == before
    assert not (clone / "data" / "more.csv").exists()


def test_an_edited_file_is_pinned_again_where_it_lies(clone, tmp_path):
    """A file changed inside data/ is versioned by naming it."""
    datasets.add(clone, people(tmp_path))
    before = pin(clone)
    people(clone / "data", shift=5)
    datasets.add(clone, clone / "data" / "people.csv")
    assert pin(clone) != before
    assert storage.verify(clone) == pin(clone)


def test_a_folder_is_added_whole(clone, tmp_path):
    """A folder of class folders keeps its shape."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "1.txt").write_text(name)
    datasets.add(clone, tmp_path / "pets")
    assert (clone / "data" / "pets" / "dog" / "1.txt").read_text() == "dog"


def remote(project, folder):
    repo = Repo(str(project))
    with repo.config.edit() as config:
        config["core"]["remote"] = "local"
        config["remote"]["local"] = {"url": str(folder)}
    repo.close()


def test_push_and_pull_through_a_remote(clone, tmp_path):
    """Pushed from one clone, a user's data arrives in another that has neither cache nor embedded copy of it."""
    remote(clone, tmp_path / "remote")
    datasets.add(clone, people(tmp_path))
    assert datasets.push(clone) == 4
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "mine")
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(clone), str(other))
    assert datasets.pull(other) > 0
    assert (other / "data" / "people.csv").read_bytes() == (clone / "data" / "people.csv").read_bytes()
    shutil.rmtree(other / "data")
    shutil.rmtree(other / ".dvc" / "cache")
    assert storage.materialise(other) == pin(clone)


def test_without_a_remote_a_users_data_cannot_be_had(clone, tmp_path):
    """A clone that has no copy of the pinned data says so and what to configure; nothing is half restored as whole."""
    datasets.add(clone, people(tmp_path))
    git(clone, "commit", "-aqm", "mine")
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(clone), str(other))
    with pytest.raises(DataError, match="dvc remote add"):
        storage.materialise(other)
    with pytest.raises(DataError):
        datasets.push(other)


def test_pull_never_overwrites_unpinned_work(clone, tmp_path):
    """A file of the user's that nobody pinned survives pull and checkout, which refuse."""
    remote(clone, tmp_path / "remote")
    storage.materialise(clone)
    datasets.push(clone)
    (clone / "data" / "mine.csv").write_text("a\n1\n")
    for act in (datasets.pull, datasets.checkout):
        with pytest.raises(DataError, match=r"mine\.csv"):
            act(clone)
    assert (clone / "data" / "mine.csv").exists()


def test_any_past_revision_can_be_read(clone, tmp_path):
    """Each committed version of a file is read back, with the working copy untouched."""
    versions = {}
    for shift in (0, 7):
        shutil.rmtree(clone / "data", ignore_errors=True)
        datasets.checkout(clone) if shift else storage.materialise(clone)
        target = clone / "data" / "people.csv"
        people(clone / "data", shift=shift)
        datasets.add(clone, target)
        git(clone, "commit", "-aqm", f"shift {shift}")
        versions[git(clone, "rev-parse", "HEAD").strip()] = target.read_bytes()
    for commit, content in versions.items():
        out = datasets.read_revision(clone, commit, "people.csv", tmp_path / f"{commit}.csv")
        assert out.read_bytes() == content
    assert storage.verify(clone) == pin(clone)
    with pytest.raises(DataError):
        datasets.read_revision(clone, "0" * 40, "people.csv", tmp_path / "none")
    with pytest.raises(DataError):
        datasets.read_revision(clone, commit, "none.csv", tmp_path / "none")
    with pytest.raises(DataError, match="not committed"):
        datasets.read_revision(clone, f"{commit}-dirty", "people.csv", tmp_path / "none")


def test_reading_a_revision_never_touches_what_is_there(clone, tmp_path):
    """A precious file or folder named as the target survives a right path, a mistyped one and a wrong revision."""
    storage.materialise(clone)
    head = git(clone, "rev-parse", "HEAD").strip()
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for out in (folder, folder / "chapter.txt", link):
        for revision, path in ((head, "sba_loans_small.parquet"), (head, "sba_lones.parquet"), ("0" * 40, "x")):
            with pytest.raises(DataError, match="there already"):
                datasets.read_revision(clone, revision, path, out)
    assert (folder / "chapter.txt").read_text() == "years of work"
    assert sorted(path.name for path in folder.iterdir()) == ["chapter.txt"]
    assert link.is_symlink()
    with pytest.raises(DataError, match="no folder"):
        datasets.read_revision(clone, head, "sba_loans_small.parquet", tmp_path / "none" / "out")


def test_a_mistyped_path_leaves_nothing_behind(clone, tmp_path):
    """A file that never was gives an error and no half of an output."""
    storage.materialise(clone)
    (tmp_path / "here").mkdir()
    with pytest.raises(DataError, match="see that the path is right"):
        datasets.read_revision(clone, "HEAD", "sba_lones.parquet", tmp_path / "here" / "out")
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("path", ["../data.dvc", "x/../../data.dvc", "/etc/hostname", ""])
def test_only_data_is_read_out_of_a_revision(clone, tmp_path, path):
    """A path that leads out of data/ is refused, though the revision holds such a file."""
    with pytest.raises(DataError, match="below data/"):
        datasets.read_revision(clone, "HEAD", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_embedded_data_of_a_past_revision_needs_no_cache(clone, tmp_path):
    """In a clone without cache or remote, a revision whose data were the embedded files is read from git."""
    first = git(clone, "rev-parse", "HEAD").strip()
    for name in ("sba_loans_small.parquet", "data/sba_loans_small.parquet"):  # as it is named in data/, or in the tree
        out = datasets.read_revision(clone, first, name, tmp_path / name.replace("/", "-"))
        assert out.read_bytes() == (clone / "embedded" / "sba_loans_small.parquet").read_bytes()


def test_linked_caches_are_refused(clone):
    """With hard links a write into data/ would change the cache: such a configuration is an error."""
    config = clone / ".dvc" / "config"
    config.write_text(config.read_text() + "[cache]\n    type = hardlink\n")
    with pytest.raises(DataError, match="hardlink"):
        storage.materialise(clone)


def test_no_project_is_an_error(tmp_path):
    """A folder without data.dvc is refused by name."""
    with pytest.raises(DataError, match=r"no data\.dvc"):
        storage.verify(tmp_path)


def test_a_snapshot_leads_back_to_its_rows(clone, tmp_path):
    """A reference loads the very rows again, quarantine included, in a process that never saw them."""
    datasets.add(clone, people(tmp_path))
    at = stores(clone)
    whole = storage.snapshot(Params, at)
    ids = storage.load_data(at, Params, whole).ids
    part = storage.snapshot(Params, at, frozenset(map(int, ids[:3])))
    assert (whole.rows, whole.path, whole.md5, whole.quarantined) == (400, "data/people.csv", pin(clone), "")
    assert part.content != whole.content
    assert part.quarantined
    storage._loaded.clear()
    again = storage.load_data(at, Params, part)
    assert again.excluded.sum() == 3
    assert again.role_summaries() == part.roles
    assert storage.load_data(at, Params, part) is again


def test_a_snapshot_names_its_own_file_or_folder_as_dvc_does(clone, tmp_path):
    """The data set's md5 is DVC's own of that file or folder."""
    datasets.add(clone, people(tmp_path))
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "cat" / "1.txt").write_text("cat")
    datasets.add(clone, tmp_path / "pets")
    repo = Repo(str(clone))
    for path in ("people.csv", "pets", "pets/cat"):
        assert storage._measured(clone, path) == (pin(clone), versioning.hash_path(repo, clone / "data" / path))
    repo.close()


def test_data_that_changes_underneath_is_refused(clone, tmp_path):
    """A snapshot does not load from other bytes, nor with a quarantine list that was edited."""
    datasets.add(clone, people(tmp_path))
    at = stores(clone)
    taken = storage.snapshot(Params, at)
    part = storage.snapshot(Params, at, frozenset({int(storage.load_data(at, Params, taken).ids[0])}))
    (listed,) = at.quarantine.glob("excluded-*.json")
    listed.write_text("[1]")
    storage._loaded.clear()
    with pytest.raises(DataError, match="other ids"):
        storage.load_data(at, Params, part)
    people(clone / "data", shift=1)
    with pytest.raises(DataError, match="md5"):
        storage.load_data(at, Params, taken)
    datasets.add(clone, clone / "data" / "people.csv")
    with pytest.raises(DataError, match="changed underneath"):
        storage.load_data(at, Params, taken)


def test_verifying_is_quick(clone):
    """Every load verifies, so it must cost next to nothing on the embedded data."""
    storage.materialise(clone)
    start = os.times()
    storage.verify(clone)
    end = os.times()
    assert end.user + end.system - start.user - start.system < 1.0
