"""Cache settings come from the option, the environment, the config file or the default, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph import settings
from nodegraph.errors import SettingsError
from nodegraph.settings import DEFAULT_SIZE, DIRECTORY_VARIABLE, SIZE_VARIABLE, load_settings, parse_size


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a config file that does not exist yet, with no setting in the environment."""
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    monkeypatch.delenv(SIZE_VARIABLE, raising=False)
    path = tmp_path / "nodegraph" / "config.toml"
    path.parent.mkdir()
    monkeypatch.setattr("nodegraph.settings.files.user_file", lambda: path)
    return path


def test_config_file_is_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # Linux
    assert settings.user_file().name == "config.toml"
    assert "nodegraph" in settings.user_file().parts


def test_defaults_are_the_platform_folder_and_20_gb(file: Path) -> None:
    loaded = load_settings()
    assert "nodegraph" in loaded.cache_dir.parts
    assert loaded.cache_size == DEFAULT_SIZE == 20_000_000_000


def test_option_beats_environment_beats_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[cache]\ndir = "beside"\nsize = "3 GB"\n')
    assert load_settings() == settings.Settings(file.parent / "beside", 3_000_000_000)
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "told"))
    monkeypatch.setenv(SIZE_VARIABLE, "2 GiB")
    assert load_settings() == settings.Settings(tmp_path / "told", 2 << 30)
    assert load_settings(tmp_path / "mine", 7) == settings.Settings(tmp_path / "mine", 7)
    assert load_settings(cache_size="unlimited").cache_size is None
    assert load_settings(cache_size=0).cache_size == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("1.5 kB", 1500),
        ("2M", 2_000_000),
        ("1 MiB", 1 << 20),
        ("1tb", 10**12),
        (" 3 gib ", 3 << 30),
    ],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1 PB", "1,5 GB", "GB", "nan", "1e9", True, -5])
def test_wrong_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="expected a number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cache", "is not valid TOML"),
        ("[cache]\nsise = 3", "'sise' in [cache] of"),
        ("[cach]\nsize = 3", "Did you mean 'cache'?"),
        ("cache = 3", "is not a table"),
        ("[cache]\ndir = 3", "expected a path in quotes, found 3"),
        ("[cache]\nsize = 'big'", "'size' in"),
        ("[cache]\nsize = [3]", "'size' in"),
    ],
)
def test_wrong_config_file_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match="E401") as error:
        load_settings()
    assert str(file) in str(error.value)
    assert message in str(error.value)


def test_wrong_variable_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIZE_VARIABLE, "lots")
    with pytest.raises(SettingsError, match=r"NODEGRAPH_CACHE_SIZE cannot be used: expected a number of bytes.*found 'lots'"):
        load_settings()


def test_unreadable_config_file_is_named(file: Path) -> None:
    file.mkdir()
    with pytest.raises(SettingsError, match=r"config.toml cannot be read"):
        load_settings()
