"""The commands, run in-process where no server is needed."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import onhand
from onhand import __version__
from onhand.cli import app, main
from onhand.serving.keys import KeyFile
from onhand.state.state import Limits

runner = CliRunner()


def test_version() -> None:
    assert runner.invoke(app, ["version"]).output.strip() == __version__


def test_doctor_finds_this_machine_sound(tmp_path: Path) -> None:
    done = runner.invoke(app, ["doctor", "--data", str(tmp_path / "new")])
    assert "There is no log" in done.output
    assert "fsync" in done.output
    assert not (tmp_path / "new").exists()
    assert list(tmp_path.iterdir()) == []


def test_doctor_looks_at_the_log(tmp_path: Path) -> None:
    records = tmp_path / "items.ndjson"
    records.write_text('{"id":"a"}\n{"id":"b"}\n')
    data = str(tmp_path / "data")
    done = runner.invoke(app, ["ingest", str(records), "--kind", "items", "--data", data])
    assert done.exit_code == 0
    assert "is sound: 2 records" in runner.invoke(app, ["doctor", "--data", data]).output
    log = tmp_path / "data" / "log.db"
    log.write_bytes(b"not a database" * 1000)
    done = runner.invoke(app, ["doctor", "--data", data])
    assert done.exit_code == 1
    assert "bad" in done.output


def test_doctor_looks_at_all_in_the_folder(tmp_path: Path) -> None:
    def told() -> tuple[int, str]:
        done = runner.invoke(app, ["doctor", "--data", str(data)])
        return done.exit_code, done.output.replace("\n", "")

    data = tmp_path / "data"
    shop = onhand.App(ready=False)
    shop.event("wish", {"list": onhand.Field("string")})
    onhand.Engine.open(data, Limits(items=64, users=32, sessions=32), shop).close()
    keys = KeyFile(data)
    keys.create("read", 0)
    keys.create("admin", 0, lifetime_ms=1)
    events = tmp_path / "events.ndjson"
    events.write_text('{"type":"wish","list":5,"session":"s"}\n{"type":"view","item":"a"}\n')
    runner.invoke(app, ["ingest", str(events), "--data", str(data)])
    code, text = told()
    assert code == 0
    assert "events@1, items@1, signals@1, wish@1" in text
    assert "2 dead letters" in text
    assert "1 wrong_type by wish@1" in text
    assert "1 of 2 keys" in text
    assert "0 models are whole; default@1 is active" in text
    (data / "models" / "ranker@1").mkdir(parents=True)
    keys.path.write_text("[")
    (data / "dead_letters.db").write_bytes(b"not a database" * 1000)
    code, text = told()
    assert code == 1
    assert "The keys in" in text
    assert "ranker@1 cannot be used" in text
    assert text.count("bad ") == 3


def test_ingest_into_a_folder_lists_what_is_bad(tmp_path: Path) -> None:
    events = [{"type": "view", "session": "s", "item": "a", "id": f"e{i}"} for i in range(2500)]
    lines = [json.dumps(event) for event in events]
    lines.insert(1200, '{"type":"view"}')
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(lines))
    done = runner.invoke(app, ["ingest", str(file), "--data", str(tmp_path / "data")])
    assert done.exit_code == 1
    assert "2500 accepted, 0 duplicates, 1 rejected" in done.output
    assert "record 1201" in done.output.replace("\n", " ")
    again = tmp_path / "events.json"
    again.write_text(json.dumps(events, indent=1))
    done = runner.invoke(app, ["ingest", str(again), "--data", str(tmp_path / "data")])
    assert "0 accepted, 2500 duplicates, 0 rejected" in done.output
    assert done.exit_code == 0


def test_ingest_says_that_no_server_is_there(tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    file.write_text("[{}]")
    done = runner.invoke(app, ["ingest", str(file), "--url", "http://127.0.0.1:9"])
    assert done.exit_code == 1
    assert "onhand serve" in done.output
    done = runner.invoke(app, ["ingest", str(file), "--url", "nonsense"])
    assert "not the address" in done.output


def test_serve_names_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONHAND_BODY_BYTES", "lots")
    done = runner.invoke(app, ["serve"])
    assert done.exit_code == 1
    assert "body_bytes" in done.output


def test_a_command_without_its_extra_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onhand.cli.evaluate", None)
    monkeypatch.setattr(sys, "argv", ["onhand", "evaluate", "sessions"])

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name, name="polars")

    monkeypatch.setattr("onhand.cli.import_module", missing)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "pip install 'onhand[offline]'" in capsys.readouterr().err
