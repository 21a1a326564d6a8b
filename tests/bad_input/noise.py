"""What bad inputs are made of: bytes, words and values that mean something else to somebody."""

from __future__ import annotations

import os
import pickle
import random


class Bomb:
    """A pickle that creates a file when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


NOISE = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n\n", b"\x80\x04.", b"PK\x03\x04", b"\x1f\x8b\x08",
    b"\x89HDF\r\n\x1a\n", pickle.dumps(Bomb()), b"[" * 5000, b"{" * 5000, b"9" * 9000,
    b'__import__("os").system("touch executed")', b"$(touch executed)", b"../../etc/passwd",
]  # fmt: skip
VALUES = [
    '"text"', "true", "nan", "-inf", "-1", "1e400", "[]", "[[1]]", "{ a = 1 }", "1979-05-27",
    '"\\u0000"', "9" * 400, '"' + "x" * 3000 + '"', '"__import__(\\"os\\").system(\\"x\\")"',
]  # fmt: skip
# Every value above is wrong for these.
KEYS = ["epochs", "network.hidden", "optimizer.learning_rate", "data.train_size"]
FINE = {("epochs", "9" * 400), ("data.train_size", "9" * 400), ("network.hidden", "[]")}


def noise(rng: random.Random) -> bytes:
    return rng.choice([*NOISE, rng.randbytes(rng.randrange(1, 300))])


def word(rng: random.Random) -> str:
    letters = "abcxyz_-.é \\/'\"{}[]=\u202e\U0001f600"
    return "zz" + "".join(rng.choices(letters, k=rng.randrange(1, 12)))
