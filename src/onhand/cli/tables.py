"""Files of rows (CSV, Parquet, Avro) as records: which column is which field.

A mapping says it (`item=StockCode`); where it says nothing, a column with a field's own name is
that field. `guess` proposes a mapping from the names that shops commonly use. Text becomes the
type of its field; a time without a zone is in the one that was named, or is left as it is, and
so refused: it is never guessed.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, tzinfo
from pathlib import Path
from typing import Any, Final

from onhand.contracts.shapes import RECORDS, Kind, members_of

__all__ = ["SUFFIXES", "Shape", "columns_of", "guess", "rows_of"]

SUFFIXES: Final = (".csv", ".tsv", ".parquet", ".avro")

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "type": ("event", "eventname", "eventtype", "action", "behaviour"),
    "item": ("itemid", "productid", "product", "sku", "stockcode", "asin", "articleid"),
    "id": ("eventid", "messageid", "itemid", "productid", "sku", "stockcode", "asin"),
    "user": ("userid", "customerid", "customer", "visitorid", "memberid"),
    "session": ("sessionid", "visitid", "clientid", "anonymousid", "invoice", "invoiceno"),
    "time": ("timestamp", "ts", "eventtime", "datetime", "date", "invoicedate"),
    "quantity": ("qty", "units", "count"),
    "value": ("price", "unitprice", "amount", "revenue"),
    "query": ("searchterm", "search", "q", "keyword"),
    "position": ("rank", "index", "slot"),
    "title": ("name", "description", "productname", "itemname"),
    "category": ("categorypath", "categoryname", "producttype", "department"),
    "brand": ("manufacturer", "vendor"),
    "price": ("unitprice", "listprice", "saleprice", "amount"),
    "stock": ("inventory", "qty", "quantity", "available"),
    "created": ("createdat", "published", "publishedat", "added"),
    "text": ("longdescription", "body"),
}


class Shape:
    """How the rows of a file become records of a kind."""

    def __init__(
        self,
        kind: Kind,
        mapping: Mapping[str, str],
        constants: Mapping[str, str],
        zone: tzinfo | None = None,
    ) -> None:
        self._types = {member.name: member.type for member in members_of(RECORDS[kind])}
        self._fields = {column: field for field, column in mapping.items()}
        self._constants = {
            name: self._value(self._types.get(name, "string"), value, zone)
            for name, value in constants.items()
        }
        self._zone = zone

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as an object; empty cells are left out."""
        record = dict(self._constants)
        for column, cell in row.items():
            if cell is None or cell == "":
                continue
            field = self._fields.get(column) or (column if column in self._types else None)
            if field is not None:
                record[field] = self._value(self._types.get(field, "string"), cell, self._zone)
        return record

    @staticmethod
    def _value(type_: str, cell: Any, zone: tzinfo | None) -> Any:
        if type_ == "time":
            return _time(cell, zone)
        if type_ == "string":
            return (
                cell
                if isinstance(cell, str)
                else f"{cell:g}"
                if isinstance(cell, float)
                else str(cell)
            )
        if not isinstance(cell, str):
            return cell
        try:
            if type_ == "integer":
                return int(cell)
            if type_ == "number":
                return float(cell)
        except ValueError:
            return cell  # the contract refuses it, and says why
        if type_ == "boolean":
            return {"true": True, "false": False}.get(cell.lower(), cell)
        return [part for part in cell.split("|") if part] if type_ == "strings" else cell


def _time(cell: Any, zone: tzinfo | None) -> Any:
    if isinstance(cell, datetime):
        moment = cell
    elif isinstance(cell, date):
        moment = datetime(cell.year, cell.month, cell.day)
    elif isinstance(cell, str):
        if cell.isdecimal() and cell.isascii():
            return int(cell)
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:
            return cell
    else:
        return cell
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    return moment.isoformat()


def guess(columns: Iterable[str], kind: Kind) -> dict[str, str]:
    """Propose a mapping from field to column."""
    plain = {_plain(column): column for column in columns}
    found: dict[str, str] = {}
    for member in members_of(RECORDS[kind]):
        names = (member.name, *_NAMES.get(member.name, ()))
        if member.name == "id" and kind == "events":
            names = names[:3]
        column = next((plain[_plain(name)] for name in names if _plain(name) in plain), None)
        if column is not None and column not in found.values():
            found[member.name] = column
    return found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def columns_of(path: Path) -> list[str]:
    """Return the names of a file's columns."""
    return list(next(rows_of(path), {}))


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file. Raises `ModuleNotFoundError` for what is not installed, `OSError`
    and `ValueError` for what is no such file."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix == ".avro":
        yield from _avro(path)
    else:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import polars

    try:
        for part in polars.read_parquet(path).iter_slices(10_000):
            yield from part.iter_rows(named=True)
    except polars.exceptions.PolarsError as error:
        raise ValueError(str(error)) from None


def _avro(path: Path) -> Iterator[dict[str, Any]]:
    import fastavro

    with path.open("rb") as file:
        for row in fastavro.reader(file):
            if isinstance(row, dict):
                yield row
