"""Decides how large blocks and their pieces become."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_IMAGES = 256
"""The most images that each of the first `DOUBLING` blocks may have."""

LEAST_BLOCK_IMAGES = 64
"""How many images a block may have in the smallest database."""

BLOCKS = 4_000
"""From about so many blocks on, blocks grow in size, up to `BLOCK_IMAGES`, before there are more of them. Each
block takes about 1 KB of memory in every export, and the files are laid out block by block. Small blocks are
cheaper to renew: of 200,000 images with random keys, the rows of 40 changed annotations take 0.4 s to read and
render in blocks of 64, and 0.7 s in blocks of 256."""

BLOCK_BYTES = 1_000_000
"""About how many bytes of JSON each of the first `DOUBLING` blocks may have before it is cut."""

DOUBLING = 5_000
"""After each so many blocks, the following ones may be twice as large. Measured with ten million images: 15,500
blocks instead of 39,000, and 98 MB of memory instead of 125."""

PIECE_BYTES = 256_000
"""About how many bytes of JSON are read, handed over and rendered at a time. A larger block comes in pieces."""

TOGETHER_IMAGES = 128
"""Blocks with fewer images are handed over and rendered together, until they have so many. Alone, a block of one
image takes 0.25 ms of a core."""


@dataclass(slots=True)
class BlockSize:
    """How large blocks may become, and how many `blocks` there are so far.

    A block is full at `images` images, or at about `json_bytes` bytes of JSON. Both limits double after each
    `doubling` blocks. A block of more than about `piece_bytes` bytes comes in pieces. Small blocks come together,
    until they have `together` images or `piece_bytes` bytes.
    """

    images: int
    json_bytes: int
    piece_bytes: int
    doubling: int
    blocks: int = 0
    together: int = 1

    @classmethod
    def of(cls, images: int, blocks: int) -> BlockSize:
        """The sizes for a database of so many images, of which so many blocks are kept."""
        return cls(block_images(images), BLOCK_BYTES, PIECE_BYTES, DOUBLING, blocks, TOGETHER_IMAGES)

    def limits(self) -> tuple[int, int]:
        """How many images, and how many bytes of JSON, the next block may have."""
        factor = 1 << self.blocks // self.doubling
        return self.images * factor, self.json_bytes * factor


def block_images(images: int) -> int:
    """The most images that a block may have in a database of so many images."""
    return min(max(images // BLOCKS, LEAST_BLOCK_IMAGES), BLOCK_IMAGES)


def blocks_of(images: int, first: int) -> int:
    """About how many blocks the first images have, in a database of so many images."""
    size = BlockSize.of(images, 0)
    while first > 0:
        most, _ = size.limits()
        size.blocks += min(size.doubling, -(-first // most))
        first -= most * size.doubling
    return size.blocks
