"""`onhand ingest` of every type of file gives the same records."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import polars
import pytest
from google.protobuf.json_format import ParseDict
from typer.testing import CliRunner

from onhand.cli import app
from onhand.contracts.avro import avro_schema
from onhand.contracts.protobuf import message_class
from onhand.contracts.registry import Registry
from onhand.log.dead_letters import DeadLetterStore
from onhand.log.sqlite import SqliteLog

START_MS = 1_780_000_000_000
EVENTS: list[dict[str, Any]] = [
    {
        "type": "purchase",
        "session": f"s{n % 7}",
        "item": f"i{n}",
        "time": START_MS + n,
        "id": f"e{n}",
        "quantity": n % 3 + 1,
        "value": 2.5,
    }
    for n in range(2_500)
]


def ingest(data: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["ingest", *arguments, "--data", str(data)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def logged(data: Path) -> list[Any]:
    log = SqliteLog(data / "log.db")
    records = [record for batch in log.read() for record in batch.records]
    log.close()
    return records


@pytest.fixture
def expected(tmp_path: Path) -> list[Any]:
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(map(json.dumps, EVENTS)))
    assert "2500 accepted, 0 duplicates, 0 rejected" in ingest(tmp_path / "json", str(file))
    return logged(tmp_path / "json")


def test_avro(tmp_path: Path, expected: list[Any]) -> None:
    file = tmp_path / "events.avro"
    content = io.BytesIO()
    fastavro.writer(content, avro_schema(Registry().version("events")), EVENTS, codec="deflate")
    file.write_bytes(content.getvalue())
    ingest(tmp_path / "data", str(file))
    assert logged(tmp_path / "data") == expected


def test_protobuf(tmp_path: Path, expected: list[Any]) -> None:
    file = tmp_path / "events.pb"
    made = message_class(Registry().versions("events"))
    messages = [ParseDict(event, made()).SerializeToString() for event in EVENTS]
    file.write_bytes(b"".join(bytes([len(each)]) + each for each in messages))
    ingest(tmp_path / "data", str(file))
    assert logged(tmp_path / "data") == expected
    file.write_bytes(b"\xff\xff\xff")
    assert "not messages" in ingest(tmp_path / "other", str(file))


def test_parquet(tmp_path: Path, expected: list[Any]) -> None:
    file = tmp_path / "events.parquet"
    polars.DataFrame(EVENTS).rename({"item": "StockCode"}).write_parquet(file)
    ingest(tmp_path / "data", str(file), "--map", "item=StockCode")
    assert logged(tmp_path / "data") == expected


def test_csv_with_guessed_columns(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID\n"
        "536365,85123A,6,2010-12-01 08:26:00,2.55,17850\n"
        "536365,71053,many,2010-12-01 08:26:00,3.39,17850\n"
        "536366,22633,6,2010-12-01 08:28:00,,\n"
    )
    proposal = CliRunner().invoke(app, ["ingest", str(file), "--guess"]).output
    assert "--map item=StockCode" in proposal
    assert "--map time=InvoiceDate" in proposal
    options = proposal.split("--kind events ")[1].split()
    said = ingest(tmp_path / "data", str(file), *options, "--set", "type=purchase")
    assert "0 accepted, 0 duplicates, 3 rejected" in said
    assert "no zone" in said
    options += ["--set", "type=purchase", "--zone", "Europe/London"]
    assert "2 accepted, 0 duplicates, 1 rejected" in ingest(tmp_path / "data", str(file), *options)
    first, second = logged(tmp_path / "data")
    assert (first.item, first.quantity, first.value, first.user) == ("85123A", 6, 2.55, "17850")
    assert first.time == 1_291_191_960_000
    assert (second.session, second.user, second.value) == ("536366", None, None)
    store = DeadLetterStore(tmp_path / "data" / "dead_letters.db")
    assert [each.code for each in store.read()] == [
        "time_zone",
        "wrong_type",
        "time_zone",
        "wrong_type",
    ]
    assert store.read()[3].source == str(file)
    store.close()


def test_what_is_missing_or_wrong_is_said(tmp_path: Path) -> None:
    file = tmp_path / "broken.parquet"
    file.write_bytes(b"nonsense")
    assert "cannot be read" in ingest(tmp_path / "data", str(file))
    table = tmp_path / "a.csv"
    table.write_text("item\n1\n")
    assert "field=value" in ingest(tmp_path / "data", str(table), "--map", "item")
    assert "cannot be read" in ingest(tmp_path / "data", str(table), "--zone", "Nowhere/Land")
