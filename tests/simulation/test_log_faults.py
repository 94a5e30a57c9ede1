"""The log on a faulty disk: what was acknowledged is there, the rest is there whole or not at all.

`FaultyDisk` is an SQLite file layer over the real one. It knows of each file what has been synced
and which writes came after. A power cut keeps, of those later writes, any 512-byte sectors in any
combination. A failed sync is as bad as on Linux: some of its writes are lost for good although
reads still see them, and the next sync reports success.

Every draw comes from the seed in the test's name.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from onhand.contracts.records import Event, Record
from onhand.log.port import LogFailed, LogFull, LogRefused
from onhand.log.sqlite import SqliteLog

SECTOR = 512
Image = dict[str, bytes]  # file name -> what is on the disk


@dataclass
class Content:
    """A file as the disk has it, and what the disk has not been made to keep yet."""

    synced: bytearray = field(default_factory=bytearray)
    exists: bool = False  # its name would survive a power cut
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut off here

    def keep(self, chance: random.Random, share: float) -> bytearray:
        """Return the synced bytes with each pending sector there with probability `share`."""
        kept = bytearray(self.synced)
        for offset, data in self.pending:
            if data is None:
                if chance.random() < share:
                    del kept[offset:]
                continue
            for start in range(0, len(data), SECTOR):
                if chance.random() < share:
                    sector = data[start : start + SECTOR]
                    place = offset + start
                    kept.extend(bytes(max(0, place + len(sector) - len(kept))))
                    kept[place : place + len(sector)] = sector
        return kept


class FaultyDisk(apsw.VFS):
    """Counts writes and syncs, and fails those that `fails` names."""

    numbers = itertools.count()

    def __init__(self, seed: int, fails: Callable[[str, int], Exception | None]) -> None:
        self.name = f"faulty-{next(self.numbers)}"
        super().__init__(self.name, "unix")
        self.chance = random.Random(seed)
        self.fails = fails
        self.failed = False
        self.calls = {"write": 0, "sync": 0}
        self.contents: dict[str, Content] = {}
        self.before_call: Callable[[], None] = lambda: None

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "FaultyFile":  # noqa: N802
        return FaultyFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.contents.pop(Path(filename).name, None)

    def call(self, kind: str) -> None:
        self.before_call()
        self.calls[kind] += 1
        error = self.fails(kind, self.calls[kind])
        if error is not None:
            self.failed = True
            raise error

    def image(self) -> Image:
        """Return what a power cut at this moment would leave."""
        share = self.chance.choice((0.0, 0.5, 0.9, 1.0))
        return {
            name: bytes(content.keep(self.chance, share))
            for name, content in self.contents.items()
            if content.exists or self.chance.random() < share
        }


class FaultyFile(apsw.VFSFile):
    def __init__(
        self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("unix", name, flags)  # type: ignore[arg-type]
        filename = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self.disk = disk
        self.content = disk.contents.setdefault(Path(filename).name, Content())

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.call("write")
        super().xWrite(data, offset)
        self.content.pending.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self.content.pending.append((newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self.disk.call("sync")
        except Exception:
            self.content.synced = self.content.keep(self.disk.chance, 0.5)
            self.content.pending.clear()
            raise
        super().xSync(flags)
        self.content.synced = self.content.keep(self.disk.chance, 1.0)
        self.content.exists = True
        self.content.pending.clear()


class Shop:
    """Appends batches of any size until the log refuses, and knows what was acknowledged."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.sent: list[Record] = []
        self.ends = [0]
        self.acknowledged = 0

    def run(self, log: SqliteLog, batches: int) -> None:
        for _ in range(batches):
            size = self.chance.choice((1, 1, 3, 40, 400))
            first = len(self.sent) + 1
            batch: list[Record] = [
                Event(type="view", item="85123A", id=f"e{n}", query="q" * self.chance.randrange(90))
                for n in range(first, first + size)
            ]
            self.sent += batch
            self.ends.append(len(self.sent))
            try:
                self.acknowledged = log.append(batch)
            except LogFull:  # nothing was taken: it is sent again
                self.acknowledged = log.append(batch)

    def must_be_in(self, log: SqliteLog, acknowledged: int) -> None:
        """No acknowledged record is missing, none is changed, no batch is there in part."""
        assert log.last >= acknowledged
        assert log.last in self.ends
        assert content_of(log) == self.sent[: log.last]

    def must_go_on(self, log: SqliteLog) -> None:
        more: list[Record] = [Event(type="click", id=f"m{n}") for n in range(3)]
        last = log.last
        assert log.append(more) == last + 3
        assert content_of(log) == self.sent[:last] + more


def content_of(log: SqliteLog) -> list[Record]:
    records: list[Record] = []
    for batch in log.read():
        assert batch.first == len(records) + 1
        records += batch.records
    return records


@pytest.fixture(autouse=True)
def _checkpoint_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onhand.log.sqlite._WAL_PAGES", 8)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[Image], SqliteLog]]:
    """Open the log on what a power cut left, on a sound disk."""
    folders = itertools.count()

    def open_image(image: Image) -> SqliteLog:
        folder = tmp_path / f"after-{next(folders)}"
        folder.mkdir()
        for name, content in image.items():
            (folder / name).write_bytes(content)
        return SqliteLog(folder / "log.sqlite")

    return open_image  # type: ignore[return-value]


def never(kind: str, number: int) -> Exception | None:
    return None


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_before_any_write_or_sync(
    seed: int, tmp_path: Path, opened: Callable[[Image], SqliteLog]
) -> None:
    disk = FaultyDisk(seed, never)
    shop = Shop(seed)
    cuts: list[tuple[int, Image]] = []
    disk.before_call = lambda: cuts.append((shop.acknowledged, disk.image()))
    log = SqliteLog(tmp_path / "log.sqlite", vfs=disk.name)
    shop.run(log, 25)
    log.close()
    cuts.append((shop.acknowledged, disk.image()))
    assert len(cuts) > 100
    for acknowledged, image in cuts:
        after = opened(image)
        shop.must_be_in(after, acknowledged)
        shop.must_go_on(after)
        after.close()


def once(failing: str, at: int, code: int) -> Callable[[str, int], Exception | None]:
    def fails(kind: str, number: int) -> Exception | None:
        return apsw.exception_for(code) if (kind, number) == (failing, at) else None

    return fails


def ever_after(failing: str, at: int, code: int) -> Callable[[str, int], Exception | None]:
    def fails(kind: str, number: int) -> Exception | None:
        return apsw.exception_for(code) if kind == failing and number >= at else None

    return fails


FAULTS = {
    "one_sync": ("sync", once, apsw.SQLITE_IOERR_FSYNC),
    "every_sync": ("sync", ever_after, apsw.SQLITE_IOERR_FSYNC),
    "one_write": ("write", once, apsw.SQLITE_IOERR_WRITE),
    "full": ("write", ever_after, apsw.SQLITE_FULL),
    "full_for_a_moment": ("write", once, apsw.SQLITE_FULL),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_the_nth_call_for_every_n(
    fault: str, tmp_path: Path, opened: Callable[[Image], SqliteLog]
) -> None:
    kind, when, code = FAULTS[fault]
    failures = 0
    for at in itertools.count(1):
        disk = FaultyDisk(at, when(kind, at, code))
        shop = Shop(1)
        path = tmp_path / f"{at}" / "log.sqlite"
        try:
            log = SqliteLog(path, vfs=disk.name)
        except LogRefused:
            pass  # it failed while the file was made: nothing was acknowledged
        else:
            failures += run_until_failure(shop, log, disk, fault != "full_for_a_moment")
            log.close()
        after = opened(disk.image())
        shop.must_be_in(after, shop.acknowledged)
        shop.must_go_on(after)
        after.close()
        if disk.calls[kind] < at:
            break
    assert failures > 10, "the faults must have hit a running log"


def run_until_failure(shop: Shop, log: SqliteLog, disk: FaultyDisk, lasts: bool) -> bool:
    """Run; after any fault, see that appends are refused for as long as it lasts, those after a
    failed sync or write for good, and reads go on."""
    with suppress(LogFailed, LogFull):
        shop.run(log, 12)
    if disk.failed and lasts:
        for _ in range(2):
            with pytest.raises((LogFailed, LogFull)):
                log.append(shop.sent[:1])
    elif disk.failed:
        shop.run(log, 2)
    assert log.last == shop.acknowledged
    assert content_of(log) == shop.sent[: shop.acknowledged]
    return disk.failed
