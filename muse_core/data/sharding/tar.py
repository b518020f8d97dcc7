"""Tars whose bytes depend on their contents only."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from typing import BinaryIO


class TarWriter:
    """Writes samples to a stream as they come: members sorted by suffix, without owner or time.

    `close` ends the tar; after it `bytes` and `sha256` are those of the whole.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.bytes = 0

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Write one sample: suffix -> content."""
        for suffix in sorted(members):
            content = members[suffix]
            entry = tarfile.TarInfo(f"{key}.{suffix}")
            entry.size, entry.mode, entry.mtime = len(content), 0o644, 0
            self._write(entry.tobuf(tarfile.USTAR_FORMAT))
            self._write(content)
            self._write(bytes(-len(content) % tarfile.BLOCKSIZE))

    def close(self) -> None:
        """Write the mark that ends a tar, padded as `tar` pads it."""
        end = self.bytes + 2 * tarfile.BLOCKSIZE
        self._write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))

    @property
    def sha256(self) -> str:
        """Of everything written so far, as hex."""
        return self._hash.hexdigest()

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self._hash.update(content)
        self.bytes += len(content)


def space_for(size: int) -> int:
    """Bytes that a member of `size` bytes takes in a tar."""
    return tarfile.BLOCKSIZE + size + -size % tarfile.BLOCKSIZE
