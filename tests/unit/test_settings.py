from pathlib import Path

import pytest

from onhand.settings import Settings, SettingsError, describe, read_settings

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_every_setting_is_documented() -> None:
    assert DOCS.read_text() == describe(), "run: python -m onhand.settings > docs/settings.md"
    for name in Settings.__struct_fields__:
        assert f"`{name}`" in describe()


def test_options_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "onhand.toml"
    file.write_text('port = 1\nhost = "::1"\ndata = "from-file"\n')
    environment = {"ONHAND_PORT": "2", "ONHAND_DATA": "from-environment", "OTHER": "x"}
    settings = read_settings(file, environment, {"port": 3, "host": None})
    assert (settings.port, settings.host, settings.data) == (3, "::1", "from-environment")
    assert settings.body_bytes == Settings().body_bytes


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("port = 4")
    assert read_settings(None, {"ONHAND_CONFIG": str(file)}).port == 4


def test_onhand_toml_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings(None, {}) == Settings()
    Path("onhand.toml").write_text("port = 5")
    assert read_settings(None, {}).port == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "prot"),
        ('port = "many"', "port"),
        ("port = 70000", "port"),
        ("port = ", "not TOML"),
        ("request_seconds = 0", "request_seconds"),
        ('data = ""', "data"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "onhand.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_settings(file, {})


def test_a_wrong_environment_is_named() -> None:
    with pytest.raises(SettingsError, match="port"):
        read_settings(None, {"ONHAND_PORT": "http"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(tmp_path / "missing.toml", {})
