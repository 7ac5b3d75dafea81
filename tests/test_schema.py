"""The schema machinery: every fault at once and in words, defaults where they belong, fields that a form can draw."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.schema import Fault, FieldInfo, closest, fields_of, option, parse, to_plain


def about(text: str) -> dict[str, Any]:
    return {"label": text, "help": f"What {text} does, in words enough."}


@dataclass(frozen=True)
class Layer:
    width: int = option(**about("width"), low=1)
    pooled: bool = option(False, **about("pooled"))


@dataclass(frozen=True)
class Steep:
    lr: float = option(0.1, **about("lr"), low=0, low_open=True, high=10)
    nesterov: bool = option(False, **about("nesterov"))
    use_2fc: bool = option(True, **about("use_2fc"))

    def cross_check(self, prefix: str) -> list[Fault]:
        if self.nesterov and self.lr > 1:
            return [Fault(f"{prefix}.nesterov", "not with such a rate")]
        return []


@dataclass(frozen=True)
class Flat:
    momentum: float = option(0.5, **about("momentum"), low=0, high=1, high_open=True)


@dataclass(frozen=True)
class Draw:
    augment: bool = option(True, **about("augment"))
    probability: float = option(0.5, **about("probability"), low=0, high=1, when=("augment", (True,)))


@dataclass(frozen=True)
class Plan:
    name: str = option("x", **about("name"), length=(1, 5), check=lambda name: "not zz" if name == "zz" else None)
    size: int = option(5, **about("size"), low=1, high=9, unit="clips", step=2)
    kind: str | None = option("steep", **about("kind"), choices=("steep", "flat"))
    cfg: Steep | Flat = option(
        default_factory=Steep, **about("cfg"), variants=("kind", {"steep": Steep, "flat": Flat, None: Flat})
    )
    layers: tuple[Layer, ...] = option((), **about("layers"))
    blocks: tuple[int, ...] | None = option(None, **about("blocks"), low=1, length=(2, 2), level="advanced")
    train: Draw = option(Draw(), **about("train"))
    test: Draw = option(Draw(augment=False), **about("test"), when=("kind", ("steep",)))
    hidden: bool = option(False, **about("hidden"), key="_hidden")


def faults(mapping: object) -> dict[str, str]:
    instance, found = parse(Plan, mapping)
    assert (instance is None) == bool(found)
    assert all("\n" not in str(fault) and len(str(fault)) < 400 for fault in found)
    return {fault.key: fault.message for fault in found}


def read(mapping: object) -> Plan:
    plan, found = parse(Plan, mapping)
    assert plan is not None, found
    return plan


def test_nothing_given_is_all_defaults() -> None:
    assert read({}) == Plan()
    assert read(None) == Plan()
    assert read({"train": None, "cfg": None}) == Plan()


def test_a_default_belongs_to_the_choice_it_was_written_for() -> None:
    assert read({"kind": "flat"}).cfg == Flat()
    assert read({"kind": None}).cfg == Flat()
    assert read({"kind": "steep"}).cfg == Steep()
    assert read({"kind": "flat", "cfg": {"momentum": 0}}).cfg == Flat(momentum=0.0)


def test_a_section_given_in_part_keeps_its_own_other_defaults() -> None:
    assert read({"test": {"probability": 0.1}}).test == Draw(augment=False, probability=0.1)
    assert read({"train": {"probability": 0.1}}).train == Draw(augment=True, probability=0.1)


def test_a_base_stands_in_for_the_defaults_while_its_choice_stands() -> None:
    base = Plan(size=7, kind="flat", cfg=Flat(momentum=0.1), test=Draw(probability=0.3))
    assert parse(Plan, {}, base=base) == (base, [])
    assert parse(Plan, {"name": "y"}, base=base)[0] == dataclasses.replace(base, name="y")
    assert parse(Plan, {"kind": "steep"}, base=base)[0] == dataclasses.replace(base, kind="steep", cfg=Steep())


def test_numbers_and_lists_become_the_types_of_the_schema() -> None:
    plan = read({"cfg": {"lr": "1e-3"}, "blocks": [1, 2], "layers": [{"width": 3}], "train": {"probability": 1}})
    assert plan.cfg == Steep(lr=0.001)
    assert plan.blocks == (1, 2)
    assert plan.layers == (Layer(width=3),)
    assert type(plan.train.probability) is float


def test_all_faults_come_at_once() -> None:
    found = faults(
        {
            "sise": 1,
            "size": 0,
            "cfg": {"use_fc2": True, "lr": -1},
            "layers": [{"width": 1, "poolde": True}, {"pooled": 1}],
            "blocks": [1, 0],
            "train": {"probability": 1.5},
            "name": 5,
        }
    )
    assert set(found) == {
        "sise",
        "size",
        "cfg.use_fc2",
        "cfg.lr",
        "layers[0].poolde",
        "layers[1].width",
        "layers[1].pooled",
        "blocks[1]",
        "train.probability",
        "name",
    }


@pytest.mark.parametrize(
    ("mapping", "key", "words"),
    [
        ({"sise": 1}, "sise", "unknown key; did you mean size?"),
        ({"cfg": {"use_fc2": 1}}, "cfg.use_fc2", "unknown key for kind steep; did you mean use_2fc?"),
        ({"cfg": {"momentum": 1}}, "cfg.momentum", "it belongs to kind flat"),
        ({"lr": 1}, "lr", "did you mean cfg.lr?"),
        ({"hidden": True}, "hidden", "did you mean _hidden?"),
        ({"qqqqq": 1}, "qqqqq", "allowed are name, size, kind"),
        ({4: 1}, "4", "not text"),
        ({"a\nb": 1}, "'a\\nb'", "unknown key"),
        ({"size": "5"}, "size", "got '5'; give a whole number of at least 1 and at most 9"),
        ({"size": 5.0}, "size", "did you mean 5?"),
        ({"size": True}, "size", "got true; give a whole number"),
        ({"size": None}, "size", "got null"),
        ({"size": 10}, "size", "at most 9"),
        ({"size": 10**5000}, "size", "digits"),
        ({"cfg": {"lr": 0}}, "cfg.lr", "give a number above 0 and at most 10"),
        ({"cfg": {"lr": float("nan")}}, "cfg.lr", "got nan"),
        ({"cfg": {"lr": float("inf")}}, "cfg.lr", "got inf"),
        ({"cfg": {"lr": "1e999"}}, "cfg.lr", "got '1e999'"),
        ({"cfg": {"lr": "nan"}}, "cfg.lr", "got 'nan'"),
        ({"cfg": {"lr": 10**400}}, "cfg.lr", "digits"),
        ({"cfg": {"lr": False}}, "cfg.lr", "got false"),
        ({"cfg": {"lr": [1]}}, "cfg.lr", "got [1]"),
        ({"cfg": {"nesterov": "yes"}}, "cfg.nesterov", "give true or false"),
        ({"cfg": {"nesterov": 1}}, "cfg.nesterov", "got 1; give true or false"),
        ({"kind": "flat", "cfg": {"momentum": 1}}, "cfg.momentum", "below 1"),
        ({"kind": "steap"}, "kind", "got 'steap'; give one of steep, flat, or null; did you mean steep?"),
        ({"kind": "none"}, "kind", "did you mean null?"),
        ({"kind": False}, "kind", "got false"),
        ({"cfg": 5}, "cfg", "got 5; give a section with the keys lr, nesterov, use_2fc"),
        ({"cfg": [1]}, "cfg", "give a section"),
        ({"layers": {"width": 1}}, "layers", "got a section of 1 keys; give a list"),
        ({"layers": [5]}, "layers[0]", "give a section with the keys width, pooled"),
        ({"layers": [{}]}, "layers[0].width", "missing; give a whole number of at least 1"),
        ({"layers": [{"width": 1}] * 1001}, "layers", "got a list of 1001 items"),
        ({"blocks": [1]}, "blocks", "give a list of 2 items, each a whole number of at least 1, or null"),
        ({"blocks": "12"}, "blocks", "got '12'"),
        ({"name": "toolong"}, "name", "give text of 1 to 5 printable characters"),
        ({"name": "a\nb"}, "name", "printable"),
        ({"name": 5}, "name", "put it in quotes"),
        ({"name": "zz"}, "name", "got 'zz'; not zz"),
        ({"cfg": {"lr": 2, "nesterov": True}}, "cfg.nesterov", "not with such a rate"),
        ([1], "", "got [1]; give a section"),
    ],
)
def test_a_message_says_what_came_and_what_is_allowed(mapping: object, key: str, words: str) -> None:
    found = faults(mapping)
    assert list(found) == [key]
    assert words in found[key]


def test_what_hangs_on_a_faulty_choice_is_not_judged() -> None:
    assert list(faults({"kind": "steap", "cfg": {"momentum": 2, "lr": -1}})) == ["kind"]


def test_long_values_are_cut() -> None:
    assert len(faults({"size": "9" * 100_000})["size"]) < 200
    assert len(faults({"k" * 100_000: 1}).popitem()[0]) < 200


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("use_fc2", ["use_gru", "use_2fc", "use_masking"], "use_2fc"),
        ("size_batch", ["epochs", "batch_size"], "batch_size"),
        ("Learning_rate", ["learning_rate", "lr"], "learning_rate"),
        ("zzz", ["learning_rate", "lr"], None),
        ("x", [], None),
        ("x" * 10_000, ["lr"], None),
    ],
)
def test_closest(word: str, known: list[str], expected: str | None) -> None:
    assert closest(word, known) == expected


def by_key(values: dict[str, Any] | None = None) -> dict[str, FieldInfo]:
    return {info.key: info for info in fields_of(Plan, values=values)}


def test_fields_are_described_in_order_with_their_sections() -> None:
    found = by_key()
    assert list(found)[:7] == ["name", "size", "kind", "cfg", "cfg.lr", "cfg.nesterov", "cfg.use_2fc"]
    size = found["size"]
    assert (size.kind, size.default, size.low, size.high, size.unit, size.step) == ("int", 5, 1, 9, "clips", 2)
    assert (found["kind"].kind, found["kind"].optional, found["kind"].choices) == ("choice", True, ("steep", "flat"))
    assert (found["cfg"].kind, found["cfg.lr"].kind, found["cfg.lr"].section) == ("group", "float", "cfg")
    assert found["cfg.lr"].low_open
    assert (found["blocks"].kind, found["blocks"].item_kind, found["blocks"].level) == ("list", "int", "advanced")
    assert [info.key for info in found["layers"].item_fields] == ["width", "pooled"]
    assert found["test.augment"].default is False
    assert "_hidden" in found


def test_fields_follow_the_choices_made() -> None:
    assert "cfg.momentum" in by_key({"kind": "flat"})
    assert "cfg.momentum" in by_key({"kind": None})
    assert "cfg.lr" in by_key({"kind": "not a choice"})
    assert "cfg.lr" in by_key({"kind": ["not", "text"], "cfg": 5})


def test_conditions_name_whole_keys_and_are_inherited() -> None:
    probability = by_key()["test.probability"]
    assert probability.when == (("kind", ("steep",)), ("test.augment", (True,)))
    assert probability.matters({"kind": "steep", "test.augment": True})
    assert not probability.matters({"kind": "flat", "test.augment": True})
    assert not probability.matters({"kind": "steep", "test.augment": False})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["name", "size", "kind", "cfg", "layers", "blocks", "train", "test", "_hidden", "other"])


@settings(deadline=None)
@given(st.dictionaries(KEYS, JUNK, max_size=6))
def test_any_mapping_is_an_instance_or_faults(mapping: dict[str, Any]) -> None:
    plan, found = parse(Plan, mapping)
    assert (plan is None) == bool(found)
    if plan is not None:
        assert read(to_plain(plan)) == plan


def test_plain_data_is_complete_and_under_the_keys_of_the_yaml() -> None:
    plain = to_plain(Plan(layers=(Layer(width=2),), hidden=True))
    assert list(plain) == ["name", "size", "kind", "cfg", "layers", "blocks", "train", "test", "_hidden"]
    assert plain["layers"] == [{"width": 2, "pooled": False}]
    assert plain["_hidden"] is True


def test_a_schema_written_wrongly_is_noticed_by_its_author() -> None:
    @dataclass(frozen=True)
    class Bare:
        size: int = 1

    with pytest.raises(TypeError, match=r"Bare\.size is not written with option"):
        parse(Bare, {})
