import gzip
import zlib

import pytest
import zstandard

from onhand.contracts.batch import TooLarge
from onhand.contracts.errors import Invalid
from onhand.serving.compression import unpack

LIMIT = 100_000
BODY = b'{"type":"view"}' * 1000


def pack(coding: str, content: bytes) -> bytes:
    if coding == "gzip":
        return gzip.compress(content)
    return zlib.compress(content) if coding == "deflate" else zstandard.compress(content)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_what_is_packed_is_unpacked_up_to_the_limit(coding: str) -> None:
    assert unpack(coding, pack(coding, BODY), LIMIT) == BODY
    assert unpack(coding, pack(coding, bytes(LIMIT)), LIMIT) == bytes(LIMIT)
    with pytest.raises(TooLarge):
        unpack(coding, pack(coding, bytes(LIMIT + 1)), LIMIT)
    with pytest.raises(TooLarge):
        unpack(coding, pack(coding, bytes(300_000_000)), LIMIT)
    for wrong in (b"", b"nonsense", pack(coding, BODY)[:-9]):
        with pytest.raises(Invalid):
            unpack(coding, wrong, LIMIT)


def test_a_window_that_asks_for_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(BODY) + packer.flush()
    with pytest.raises(Invalid):
        unpack("zstd", packed, LIMIT)
