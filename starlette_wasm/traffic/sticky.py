from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b


class Stickiness:
    """Places clients on weighted variants by a hash of the client's key, with no state.

    Weighted rendezvous hashing: key and variant give a number u in (0, 1), the same in each process
    and after each restart, and the variant with the highest -weight / ln(u) has the client. Shares
    are as the weights, and a score depends on nothing but its own variant. So where one weight rises
    and the others stay, no client leaves that variant and none moves between the others; if a
    variant goes, only its own clients move. (Schindelhauer and Schomaker, "Weighted Distributed Hash
    Tables", SPAA 2005.)

    `names` identify the variants: one that keeps its name keeps its clients.
    """

    __slots__ = ("_salts",)

    def __init__(self, names: Sequence[str]) -> None:
        self._salts = [blake2b(name.encode()).digest() for name in names]

    def place(self, key: str, among: Sequence[int], weights: Sequence[int]) -> int:
        """Return the one of the indices `among` that has the client; `weights[i]` belongs to `among[i]`.

        An index of weight 0 gets nobody as long as another one has more.
        """
        client = key.encode("utf-8", "surrogatepass")
        best, highest = among[0], -1.0
        for index, weight in zip(among, weights, strict=True):
            digest = blake2b(client, digest_size=8, key=self._salts[index]).digest()
            # 52 bits and a half: neither 0 nor 1, where the logarithm would be of no use.
            u = ((int.from_bytes(digest, "big") >> 12) + 0.5) / (1 << 52)
            score = -weight / math.log(u)
            if score > highest:
                best, highest = index, score
        return best
