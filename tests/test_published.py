"""The paper's tables: every row is here, and a run that repeats one is recognised."""

import pytest

from pianistid_core.config import flatten, load_config
from pianistid_core.published import published, reproductions

FACTORISED = (
    "disentangle-resnet-channel/disentangle-jtd+pijama-resnet18-mask30concept3-augment50-noattention-avgpool-onefc.yaml"
)


def test_the_two_tables_of_the_paper() -> None:
    rows = published()
    tables = {name: sorted(row.accuracy for row in rows if row.table == name) for name in ("Table 1", "Table S5")}
    assert tables["Table 1"] == [0.789, 0.806, 0.812, 0.825, 0.831, 0.844, 0.856, 0.863, 0.863, 0.906, 0.906, 0.906]
    assert tables["Table S5"] == [0.769, 0.825, 0.875, 0.944]
    assert len({row.preset for row in rows}) == len(rows) == 16
    best = next(row for row in rows if row.accuracy == 0.944)
    assert best.title == "ResNet-50"
    assert best.interval() == pytest.approx((0.8966, 0.9701), abs=5e-5)  # of 151 in 160


@pytest.mark.parametrize("row", published(), ids=lambda row: row.title)
def test_a_run_of_a_preset_repeats_that_row_alone(row: object) -> None:
    preset = row.preset  # type: ignore[attr-defined]
    config = flatten(
        load_config(preset, overrides=["seed=7", "run=mine", "experiment=x", "device=cpu", "num_workers=2"])
    )
    found = reproductions({"x/mine": config})
    assert [name for name, runs in found.items() if runs] == [preset]
    assert found[preset] == {"x/mine": ()}


def test_other_data_and_fewer_epochs_are_named_and_other_models_are_not_reproductions() -> None:
    def like(*overrides: str) -> dict[str, object]:
        return flatten(load_config(FACTORISED, overrides=overrides))

    found = reproductions(
        {
            "short": like("epochs=5"), "elsewhere": like("epochs=5", "data_split_dir=jazz20"),
            "slower": like("optim_cfg.lr=0.5"), "other": flatten(load_config("demo.yaml")), "none": {},
        }
    )  # fmt: skip
    assert found[FACTORISED] == {"short": ("epochs",), "elsewhere": ("epochs", "data_split_dir")}
    assert sum(map(len, found.values())) == 2
