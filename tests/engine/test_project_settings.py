"""A project's nodegraph.toml is found beside or above a workflow, and comes between the environment and the user's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.errors import SettingsError
from nodegraph.plugins.manager import plugin_folders
from nodegraph.settings import (
    DIRECTORY_VARIABLE,
    MODELS_VARIABLE,
    PLUGIN_DIR_VARIABLE,
    PROJECT_VARIABLE,
    SETTINGS,
    SIZE_VARIABLE,
    STALL_VARIABLE,
    VERIFY_VARIABLE,
    effective,
    load_model_memory,
    load_settings,
    load_stall_seconds,
    load_verify_share,
    model_dirs,
    nearest_project,
    project_file,
)


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    """The path of the user's file, which does not exist yet, with no setting in the environment."""
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir()
    monkeypatch.setattr("nodegraph.settings.files.user_file", lambda: path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch, user) -> Path:
    """The path of the project's file; the current directory is two folders below."""
    path = tmp_path / "project" / "nodegraph.toml"
    (path.parent / "flows" / "small").mkdir(parents=True)
    path.write_text("")
    monkeypatch.chdir(path.parent / "flows" / "small")
    return path


def test_nearest_file_at_or_above_a_folder_counts(project, tmp_path):
    assert project_file() == nearest_project(project.parent) == project
    inner = project.parent / "flows" / "nodegraph.toml"
    inner.write_text("")
    assert nearest_project(project.parent / "flows" / "small") == inner
    (project.parent / "flows" / "small" / "nodegraph.toml").mkdir()
    assert nearest_project(project.parent / "flows" / "small") == inner  # a folder of this name is no project
    assert nearest_project(tmp_path / "home") is None


def test_variable_names_the_project_or_none(project, tmp_path, monkeypatch):
    monkeypatch.setenv(PROJECT_VARIABLE, "none")
    assert project_file() is None
    other = tmp_path / "other.toml"
    monkeypatch.setenv(PROJECT_VARIABLE, str(other))
    with pytest.raises(SettingsError, match=f"{PROJECT_VARIABLE} cannot be used: there is no file"):
        project_file()
    other.write_text("")
    assert project_file() == other


def test_project_comes_after_the_environment_and_before_the_user(project, user, monkeypatch, tmp_path):
    user.write_text(
        '[cache]\ndir = "mine"\nsize = "1 GB"\n[models]\ndirs = ["m"]\nmemory = "2 GB"\n[run]\nverify = 0.5\nstall = 9\n'
    )
    assert load_settings().cache_dir == user.parent / "mine"
    assert model_dirs() == (user.parent / "m",)
    assert (load_model_memory(), load_verify_share(), load_stall_seconds()) == (2 * 10**9, 0.5, 9)
    project.write_text(
        '[cache]\ndir = "c"\nsize = "3 GB"\n[models]\ndirs = ["n", "../o"]\nmemory = 4\n[run]\nverify = 0.25\nstall = 8.5\n'
    )
    assert load_settings().cache_dir == project.parent / "c"
    assert load_settings().cache_size == 3 * 10**9
    assert [folder.resolve() for folder in model_dirs()] == [project.parent / "n", project.parent.parent / "o"]
    assert (load_model_memory(), load_verify_share(), load_stall_seconds()) == (4, 0.25, 8.5)
    for variable, text in (
        (DIRECTORY_VARIABLE, str(tmp_path / "e")),
        (SIZE_VARIABLE, "5 GB"),
        (MODELS_VARIABLE, str(tmp_path / "f")),
        (VERIFY_VARIABLE, "1"),
        (STALL_VARIABLE, "7"),
    ):
        monkeypatch.setenv(variable, text)
    assert load_settings() == type(load_settings())(tmp_path / "e", 5 * 10**9)
    assert model_dirs() == (tmp_path / "f",)
    assert (load_verify_share(), load_stall_seconds()) == (1, 7)
    assert load_settings(tmp_path / "g", 6) == type(load_settings())(tmp_path / "g", 6)


def test_project_sets_no_plugin_folders_but_the_user_does(project, user, monkeypatch):
    user.write_text('[plugins]\ndirs = ["mine"]\n')
    assert plugin_folders(["given"]) == ["given", user.parent / "mine"]
    monkeypatch.setenv(PLUGIN_DIR_VARIABLE, "told")
    assert plugin_folders([]) == ["told"]
    project.write_text('[plugins]\ndirs = ["theirs"]\n')
    with pytest.raises(SettingsError, match="a project's file cannot set folders of plugins"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[cache]\ndir = "../elsewhere"', "expected a folder inside the project"),
        ('[cache]\ndir = "~/elsewhere"', "expected a folder inside the project"),
        ("[cache]\nsize = 0", "a project limits its own cache only"),
        ("[cach]\nsize = 0", "Did you mean 'cache'"),
        ("[models]\ndirs = 'x'", 'expected a list of paths, such as ["~/models"], found'),
        ("[models]\nmemory = 'big'\n", "'memory' in"),
        ("[run]\nverify = true\n", "'verify' in"),
        ("[run]\nstall = 'soon'\n", "expected a number of seconds"),
        ("run = 3", "is not a table: expected [run] with 'verify', 'stall' or 'inline', found 3"),
        ("[run]\ninline = true\n", "'inline' in"),
        ("[server]\ntoken = 'x'", "'server' in"),
    ],
)
def test_wrong_project_file_is_named_with_what_is_right(project, text, message):
    project.write_text(text)
    with pytest.raises(SettingsError) as caught:
        [effective(name) for name in SETTINGS]
    assert message in str(caught.value)
    assert str(project) in str(caught.value)


def test_link_does_not_lead_a_cache_out_of_its_project(project, user):
    (project.parent / "cache").symlink_to(user.parent)
    project.write_text('[cache]\ndir = "cache"\nsize = 0\n')
    with pytest.raises(SettingsError, match="expected a folder inside the project"):
        load_settings()


def test_effective_settings_have_values_and_origins(project, user, monkeypatch):
    project.write_text('[cache]\ndir = "c"\n')
    user.write_text("[run]\nstall = 3\n")
    monkeypatch.setenv(SIZE_VARIABLE, "2 GB")
    origins = {name: effective(name).origin for name in SETTINGS}
    assert origins == {
        "cache.dir": str(project),
        "cache.size": SIZE_VARIABLE,
        "cache.remote": "default",
        "cache.remote_access": "default",
        "models.dirs": "default",
        "models.memory": "default",
        "plugins.dirs": "default",
        "run.verify": "default",
        "run.stall": str(user),
        "run.inline": "default",
    }
    assert effective("cache.dir").value == project.parent / "c"
