"""What a bucket holds: keys in their order, and contents that follow from them, so that nothing is kept to check by."""

import dataclasses
import hashlib

PIECE = 1 << 20
# What clients write where a large object was: shorter, as all that they write takes room on the disk.
WRITTEN = 4 << 20
NOISE = hashlib.shake_128(b"what bodies are cut from").digest(2 * PIECE)


@dataclasses.dataclass(frozen=True)
class Object:
    """A key, and which of its contents: 0 is what it was filled with, each write of a client's has a number of its own."""

    key: str
    length: int
    turn: int = 0

    @property
    def path(self):
        return "/" + self.key

    def pieces(self):
        """The body. Each piece has a mark of its place, and its noise begins somewhere else."""
        for at in range(0, self.length, PIECE):
            mark = digest(self.key, self.turn, at)
            start = int.from_bytes(mark[:8], "big") % PIECE
            length = min(PIECE, self.length - at)
            yield mark[:length] + NOISE[start:start + max(0, length - len(mark))]

    def headers(self):
        """Metadata that must be kept, too."""
        mark = digest(self.key, self.turn, "metadata").hex()
        return [("content-type", f"application/x-{mark[:8]}"), ("x-amz-meta-mark", mark)]


def digest(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


class Objects:
    """So many small ones of 1 to 4 KiB, and so many large ones. In the order of their keys the large ones come first."""

    def __init__(self, small, large, large_mib):
        self.small, self.large, self.long = small, large, large_mib << 20
        self.bytes = {"large": large * self.long, "small": sum(small_length(self.key(at)) for at in range(large, len(self)))}

    def __len__(self):
        return self.large + self.small

    def key(self, at):
        if at < self.large:
            return f"large/{at:08}"
        number = at - self.large
        return f"small/{number // 1000:05}/{number:08}"

    def __getitem__(self, at):
        key = self.key(at)
        return Object(key, self.long if at < self.large else small_length(key))

    def __iter__(self):
        return map(self.__getitem__, range(len(self)))

    def written(self, at, turn):
        """What a client writes there: of another length, and empty at times."""
        key = self.key(at)
        most = 8193 if at >= self.large else min(WRITTEN, self.long // 2) + 1
        return Object(key, int.from_bytes(digest(key, turn, "length")[:8], "big") % most, turn)

    def halves(self):
        """The large ones and the small ones: prefix, how many, bytes."""
        both = ("large", self.large), ("small", self.small)
        return [(name, count, self.bytes[name]) for name, count in both if count]


def small_length(key):
    return 1024 + int.from_bytes(digest(key, "length")[:8], "big") % 3073
