"""A user's factory: called by its name, refused before any work, and known by the source that decides what it does."""

from importlib.metadata import version

import pytest

from holdfast.errors import ModelError
from holdfast.factory import check_factory, factory_digest, factory_packages, factory_sources


def test_the_users_module_is_named_by_its_source(tmp_path, monkeypatch):
    """An edited factory is another factory; Holdfast's own are covered by the library's digest."""
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "users_own_net.py"
    module.write_text("def build(shape, classes): ...\n")
    before = factory_digest("users_own_net:build")
    module.write_text("def build(shape, classes): return None\n")
    assert before
    assert factory_digest("users_own_net:build") != before
    assert factory_digest("holdfast.networks:mlp") == ""


def test_a_package_takes_along_all_that_it_imports_beside_it(tmp_path, monkeypatch):
    """From any file of the package, at any depth and by any form of import; not what nobody imports."""
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "pkg_c/__init__.py": "", "pkg_c/inner/__init__.py": "", "pkg_c/broken.py": "def (",
        "pkg_c/net.py": "import blocks_c\nfrom .inner import deep\nimport math, torch, holdfast\ndef build(shape, classes): ...\n",
        "pkg_c/inner/deep.py": "def later():\n    import lib_c.extra.more as more\n    from plain_c import heads\n",
        "blocks_c.py": "from parts_c.wide import W\n", "parts_c/__init__.py": "import pkg_c\n",
        "parts_c/wide.py": "W = 1\n", "lib_c/__init__.py": "", "lib_c/extra/__init__.py": "",
        "lib_c/extra/more.py": "", "plain_c/heads.py": "from . import tails\n", "plain_c/tails.py": "",
        "unused_c.py": "", "plain_c/unused.py": "", "holdfast.py": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    root, found = factory_sources("pkg_c.net:build")
    assert root == tmp_path
    unused = {"unused_c.py", "plain_c/unused.py", "holdfast.py"}
    assert {file.relative_to(root).as_posix() for file in found} == set(files) - unused
    for name, text in files.items():
        before = factory_digest("pkg_c.net:build")
        (tmp_path / name).write_text(text + "# edited\n")
        assert (factory_digest("pkg_c.net:build") == before) == (name in unused), name


def test_an_installed_package_is_its_own_files(tmp_path, monkeypatch):
    """What lies beside it in site-packages is other people's, and is not followed."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path)])
    (tmp_path / "inst_d").mkdir()
    (tmp_path / "inst_d" / "__init__.py").write_text("import vast_d\ndef build(shape, classes): ...\n")
    (tmp_path / "vast_d.py").write_text("")
    assert factory_sources("inst_d:build") == (tmp_path, (tmp_path / "inst_d" / "__init__.py",))


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("holdfast.networks:mlp", {"widht": 8}, "unexpected keyword argument 'widht'"),
        ("holdfast.networks:mpl", {}, "no mpl in holdfast.networks.* Did you mean mlp"),
        ("no_such_module:build", {}, "No module named 'no_such_module'"),
    ],
)
def test_a_factory_is_held_against_its_settings_before_any_work(name, settings, words):
    """A misspelt setting, function or module is refused without data, and the function's own settings are told."""
    with pytest.raises(ModelError, match=words):
        check_factory(name, settings)
    check_factory("holdfast.networks:mlp", {"width": 8})


def test_packages_that_the_module_imports_are_named_with_their_versions(tmp_path, monkeypatch):
    """From any of its files; not the standard library, nor what every key names anyway, nor what nobody imports."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "help_f.py").write_text("def later():\n    import yaml.nodes\n")
    (tmp_path / "net_f.py").write_text("import json, torch, help_f\nfrom pydantic import Field\ndef build(s, c): ...\n")
    assert factory_packages("net_f:build") == {each: version(each) for each in ("PyYAML", "pydantic")}
    assert factory_packages("holdfast.networks:mlp") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def build(shape, classes:\n", r"SyntaxError: .*\(broken_e\d+.py, line 1\)"),
        ("\nwidth = wdith\n", r"NameError: name 'wdith' is not defined \(broken_e\d+.py, line 2\)"),
        ("import no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise KeyError('rows')\n", r"KeyError: 'rows' \(broken_e\d+.py, line 1\)"),
    ],
)
def test_a_module_that_breaks_while_it_is_imported_is_a_model_error(tmp_path, monkeypatch, text, words):
    """A user's mistake is told as one, with its file and line, whatever exception it raises."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"broken_e{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(ModelError, match=words):
        check_factory(f"{name}:build", {})
