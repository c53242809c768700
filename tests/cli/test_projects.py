"""`nodegraph init`, `config` and `doctor`, and the settings of the project that a workflow belongs to."""

from __future__ import annotations

import pytest

from nodegraph.settings import PROJECT_VARIABLE


@pytest.fixture(autouse=True)
def no_settings(cli, monkeypatch):
    """No cache folder in the environment, and no file of the user."""
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    monkeypatch.setattr("nodegraph.settings.files.user_file", lambda: cli.folder / "config.toml")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cli.folder / "platform"))


WITHOUT = {"NODEGRAPH_CACHE_DIR": None}


def test_workflow_runs_with_the_cache_of_its_project(cli, greeting):
    folder = cli.folder / "project" / "flows"
    folder.mkdir(parents=True)
    (folder.parent / "nodegraph.toml").write_text('[cache]\ndir = "kept"\n')
    ran = cli("run", greeting.rename(folder / "greeting.yaml"), env=WITHOUT)
    assert ran.exit_code == 0, ran.stderr
    assert (folder.parent / "kept" / "CACHEDIR.TAG").is_file()
    assert cli("run", folder / "greeting.yaml", "--cache-dir", "other", env=WITHOUT).exit_code == 0
    assert (cli.folder / "other" / "CACHEDIR.TAG").is_file()


def test_config_shows_values_and_where_they_come_from(cli, greeting):
    (cli.folder / "nodegraph.toml").write_text('[cache]\ndir = "kept"\n')
    shown = cli("config", greeting, env={**WITHOUT, "NODEGRAPH_CACHE_SIZE": "3 GB"}).stdout.splitlines()
    assert shown[0].split() == ["cache.dir", f"{cli.folder / 'kept'}", f"{cli.folder / 'nodegraph.toml'}", "NODEGRAPH_CACHE_DIR"]
    assert shown[1].split() == ["cache.size", "3", "GB", "NODEGRAPH_CACHE_SIZE", "NODEGRAPH_CACHE_SIZE"]
    assert shown[-2:] == [
        f"project's file: {cli.folder / 'nodegraph.toml'}",
        f"your own file: {cli.folder / 'config.toml'} (not there)",
    ]
    settings = cli("config", "--json", env=WITHOUT).json
    assert settings["files"] == {"project": str(cli.folder / "nodegraph.toml"), "user": str(cli.folder / "config.toml")}
    assert settings["settings"]["cache.dir"]["value"] == str(cli.folder / "kept")
    assert settings["settings"]["plugins.dirs"]["in_project"] is False


def test_config_names_a_file_that_is_wrong(cli):
    (cli.folder / "nodegraph.toml").write_text("[plugins]\ndirs = ['x']\n")
    ran = cli("config", env=WITHOUT)
    assert ran.exit_code == 2
    assert "a project's file cannot set folders of plugins" in ran.stderr


def test_init_makes_a_project_that_runs(cli):
    ran = cli("init", "mine", "--example", "txt2img", env=WITHOUT)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "wrote mine/nodegraph.toml",
        "wrote mine/.gitignore",
        "wrote mine/workflows/txt2img.yaml",
    ]
    assert "Next: nodegraph run mine/workflows/txt2img.yaml" in ran.stderr
    assert cli("check", "mine/workflows/txt2img.yaml", env=WITHOUT).exit_code == 0
    config = cli("config", "mine/workflows/txt2img.yaml", "--json", env=WITHOUT).json
    assert config["settings"]["cache.dir"]["value"] == str(cli.folder / "mine" / "cache")


def test_init_overwrites_nothing(cli):
    (cli.folder / ".gitignore").write_text("mine\n")
    assert cli("init", "--json", env=WITHOUT).exit_code == 0
    assert (cli.folder / ".gitignore").read_text() == "mine\n"
    assert cli("init", env=WITHOUT).exit_code == 0  # all files are there with the same content
    (cli.folder / "workflows" / "txt2img.yaml").write_text("changed")
    (cli.folder / "nodegraph.toml").unlink()
    again = cli("init", env=WITHOUT)
    assert again.exit_code == 2
    assert "txt2img.yaml exists already and stays as it is" in again.stderr
    assert not (cli.folder / "nodegraph.toml").exists()
    assert cli("init", "--example", "txt3img").exit_code == 2


def findings(ran):
    return {(finding["subject"], finding["state"]): finding for finding in ran.json["findings"]}


def test_doctor_finds_nothing_wrong(cli, greeting):
    ran = cli("doctor", "--json")
    assert ran.exit_code == 0, ran.stdout
    assert ran.json["problems"] == 0
    assert "Python 3" in findings(ran)["nodegraph", "ok"]["found"]
    assert "stub_pack" in findings(ran)["plugins", "ok"]["found"]
    assert "computes on cpu in " in findings(ran)["machine", "ok"]["found"]
    assert cli("run", greeting).exit_code == 0
    assert cli("doctor").stdout.endswith("No problems.\n")


def test_doctor_names_each_problem_and_what_to_do(cli):
    (cli.folder / "cache").mkdir()
    (cli.folder / "cache" / "letter.txt").write_text("dear reader")
    (cli.folder / "config.toml").write_text('[models]\ndirs = ["nowhere"]\n')
    (cli.folder / "plugins").mkdir()
    (cli.folder / "plugins" / "broken.py").write_text("import nothing_of_this_name")
    ran = cli("doctor", "--plugin-dir", "plugins", "--json")
    assert ran.exit_code == 1
    assert ran.json["problems"] == 3
    found = findings(ran)
    assert "is a folder, but no cache of nodegraph" in found["cache", "problem"]["found"]
    assert f"there is no folder {cli.folder / 'nowhere'}" in found["models", "problem"]["found"]
    assert "nothing_of_this_name" in found["plugins", "problem"]["found"]
    shown = cli("doctor", "--plugin-dir", "plugins").stdout
    assert "3 problems." in shown
    assert all(finding["advice"] in shown for finding in ran.json["findings"])


def test_doctor_goes_on_with_settings_that_are_wrong(cli):
    (cli.folder / "nodegraph.toml").write_text("[cache]\nsise = 3")
    ran = cli("doctor", "--json", env=WITHOUT)
    assert ran.exit_code == 1
    assert "'sise' in [cache]" in findings(ran)["cache", "problem"]["found"]
    assert ("machine", "ok") in findings(ran)


def test_doctor_warns_of_a_cache_that_others_may_change(cli, greeting):
    assert cli("run", greeting).exit_code == 0
    (cli.folder / "cache").chmod(0o707)
    assert f"chmod o-w {cli.folder / 'cache'}" in cli("doctor").stdout
