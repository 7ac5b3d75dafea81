"""YAML and JSON made to hang, crash or surprise a reader, and values that mean something else to other readers."""

import math
from typing import Any

from pianistid_core.strict_yaml import MAX_BYTES

FULL = MAX_BYTES - 100
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"b{level}: &b{level}\n  <<: [{', '.join(['*a' if level == 0 else f'*b{level - 1}'] * 8)}]\n" for level in range(12)
)

# What is refused, and words of the sentence, as a regular expression.
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "laughs": (LAUGHS, "line 1, column 4: an anchor or alias"),
    "merge key bomb": (MERGES, "line 1, column 4: an anchor or alias"),
    "merge key": ("<<: {a: 1}", "line 1, column 1: a merge key"),
    "recursive list": ("a: &a [*a]", "line 1, column 4: an anchor or alias"),
    "recursive root": ("&a {b: *a}", "line 1, column 1: an anchor or alias"),
    "1,000 lists deep": ("a: " + "[" * 1000, "nested more than 30 deep"),
    "lists all the way": ("a: " + "[" * FULL, "nested more than 30 deep"),
    "mappings all the way": ("a: " + "{a: " * (FULL // 4), "nested more than 30 deep"),
    "dashes all the way": ("a:\n" + "- " * (FULL // 2), "nested more than 30 deep"),
    "question marks": ("? " * (FULL // 2), "nested more than 30 deep"),
    "indents all the way": ("".join(" " * depth + "a:\n" for depth in range(400)), "line 30, column 30: nested"),
    "python object": ("a: !!python/object/apply:os.system ['true']", "line 1, column 4: a tag"),
    "private tag": ("a: !foo 1", "line 1, column 4: a tag"),
    "plain tag": ("a: !!bool maybe", "line 1, column 4: a tag"),
    "key twice": ("optim_cfg:\n  lr: 1\n  momentum: 0\n  lr: 2\n", "line 4, column 3: the key 'lr' is given twice"),
    "5,000 digits": ("a: " + "9" * 5000, "line 1, column 4: a number of 5,000 digits"),
    "escape out of range": (r'a: "\UFFFFFFFF"', "line 1, column 7: not YAML that can be read"),
    "empty": ("", "empty"),
    "only a comment": ("# nothing\n", "empty"),
    "scalar": ("jazz", "key: value"),
    "list": ("- a", "key: value"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2, column 1: expected a single document"),
    "tab": ("a:\n\tb: 1", "line 2, column 1: .* indent with spaces"),
    "NUL": ("a: \0", r"line 1, column 4: character U\+0000"),
    "surrogate": ("a: \ud800", r"line 1, column 4: character U\+D800"),
    "latin-1": ("run: café".encode("latin-1"), "line 1, column 9: not UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "line 1, column 1: not UTF-8"),
    "number as a key": ("1: 2", "line 1, column 1: a key must be text"),
    "boolean as a key": ("on: 2", "line 1, column 1: a key must be text"),
    "null as a key": ("~: 2", "line 1, column 1: a key must be text"),
    "list as a key": ("[a]: 2", "line 1, column 1: a key must be text"),
    "9 MB": ("a: 1\n" * 1_800_000, "9,000 kB is too large"),
    "flat": ("".join(f"a{i}: 0\n" for i in range(10_500)), "more than 10,000 values"),
    "long list": ("a: [" + "1," * (FULL // 2) + "]", "more than 10,000 values"),
    "open quote": ('a: "' + "x" * FULL, "line 1, column .*: found unexpected end of stream"),
    "colons": (":" * FULL, "line 1"),
    "unbalanced": ("a: [1, 2", "line 1, column 9"),
    "unknown version": ("%YAML 9.9\n---\na: 1", "line 1, column 1"),
}

# What is read, written after `a: `, and what it must be.
INTENDED: list[tuple[str, Any]] = [
    ("1e-3", 1e-3),
    ("1.0e-3", 1e-3),
    ("5E2", 500.0),
    (".5", 0.5),
    ("1_000", 1000),
    ("-7", -7),
    ("True", True),
    ("no", False),
    ("on", True),
    ("~", None),
    ("", None),
    ("012", "012"),
    ("1:30", "1:30"),
    ("2024-01-01", "2024-01-01"),
    ("0x1F", "0x1F"),
    ("'1'", "1"),
    (".inf", math.inf),
    ("crnn-jtd+pijama", "crnn-jtd+pijama"),
    ("[ 3, 4, 6, 3 ]", [3, 4, 6, 3]),
    ("{ }", {}),
]

# YAML that reads well, and is no config that can be.
HOSTILE_CONFIGS = [
    "batch_size: -5",
    "batch_size: 1.5",
    "batch_size: '5'",
    "epochs: 0",
    "epochs: " + "9" * 400,
    "seed: -1",
    "unknown_key: 1",
    "experiment: ../../x",
    "experiment: /etc",
    "run: 'a\\b'",
    "run: " + "x" * 300,
    "data_split_dir: ..",
    "device: cuda:9999",
    "encoder_module: os.system",
    "encoder_module: [resnet50]",
    "optim_cfg: {lr: .nan}",
    "optim_cfg: {lr: .inf}",
    "optim_cfg: {lr: -1}",
    "optim_cfg: 3",
    "model_cfg: {num_layers: 1000000000}",
    "num_workers: 1000000",
]

HOSTILE_JSON: dict[str, str | bytes] = {
    "empty": b"",
    "open": b"{",
    "no text": b"\xff",
    "100,000 lists deep": "[" * 100_000,
    "100,000 objects deep": b'{"a":' * 100_000,
    "5,000 digits": "1" * 5000,
    "10 million digits": "1" * 10_000_000,
    "cut in an escape": b'"\\u12',
    "two values": b"{} {}",
    "a comma too many": b"[1,]",
    "single quotes": b"{'a': 1}",
    "a comment": b"{} // x",
    "UTF-16 cut": "{}".encode("utf-16")[:-1],
}
