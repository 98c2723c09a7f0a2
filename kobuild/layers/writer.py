"""What every layer writer has in common: the sums and sizes of what it wrote."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from kobuild.layers.members import Member
from kobuild.layers.sparse import Buffer
from kobuild.oci.digest import Digest
from kobuild.streams import HashingWriter, Writable


class LayerWriter(ABC):
    """Writes members as a compressed tar to a sink, with threads of its own; ends with `finish` or `abort`."""

    def __init__(self, sink: Writable) -> None:
        self._tar_hash = hashlib.sha256()
        self._tar_size = 0
        self._output = HashingWriter(sink)

    @abstractmethod
    def add(self, member: Member, content: Iterator[Buffer]) -> None:
        """Write one member with its whole content, which must be as long as its size says."""

    @abstractmethod
    def finish(self) -> None:
        """Write the end of the archive, and wait until all is written."""

    @abstractmethod
    def abort(self, error: BaseException) -> None:
        """Stop the threads; what was written is worthless."""

    def close(self) -> None:  # noqa: B027 - most writers have nothing to close
        """Close temporary files; to be called once, after `finish` or `abort`."""

    @property
    def annotations(self) -> Mapping[str, str]:
        """What belongs on the layer's descriptor, once finished."""
        return {}

    @property
    def diff_id(self) -> Digest:
        """Of the tar, once finished."""
        return Digest("sha256", self._tar_hash.hexdigest())

    @property
    def digest(self) -> Digest:
        """Of the compressed bytes, once finished."""
        return self._output.digest

    @property
    def size(self) -> int:
        """Compressed bytes."""
        return self._output.size

    @property
    def uncompressed_size(self) -> int:
        """Bytes of the tar."""
        return self._tar_size

    def _count_tar(self, data: Buffer) -> None:
        self._tar_hash.update(data)
        self._tar_size += len(data)
