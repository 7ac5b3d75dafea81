"""The paper's experiments at CPU size: what they compare stays, and within a family they are trained alike."""

import pytest

from pianistid_core.config import RunConfig, difference, flatten, load_config
from pianistid_core.cpu_sized import CRNN, EXPERIMENT, FACTORISED, FAMILIES, RESNET, STACK, cpu_sized, size_of
from pianistid_core.errors import ConfigError
from pianistid_core.models import build_model
from pianistid_core.paper_pairs import REFERENCE, pairs
from pianistid_core.published import published

ROWS = published()
COMPARED = (
    "train_dataset_cfg.data_augmentation", "train_dataset_cfg.augmentation_probability",
    "train_dataset_cfg.multichannel", "model_cfg.use_masking", "model_cfg.mask_probability",
    "model_cfg.max_masked_concepts", "model_cfg.use_attention", "model_cfg.num_attention_heads", "model_cfg.pool_type",
    "model_cfg.use_2fc", "model_cfg.use_gru", "data_split_dir",
)  # fmt: skip
LARGEST = 15_000_000  # parameters; the CRNN is the paper's own


def sized(preset: str) -> RunConfig:
    return cpu_sized(load_config(preset))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_what_an_experiment_compares_stays(row: object) -> None:
    before = load_config(row.preset)  # type: ignore[attr-defined]
    after = cpu_sized(before)
    theirs, ours = flatten(before), flatten(after)
    for key in COMPARED:
        if key in ours:  # the compact network has fewer options than a ResNet
            assert ours[key] == theirs[key], key
    assert (after.experiment, after.run, after.device) == (EXPERIMENT, before.run, "cpu")
    assert size_of(before) in FAMILIES.values()
    assert after.sched_cfg.T_max == after.epochs  # type: ignore[union-attr]


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: f"{pair.question}, {pair.setting}, {pair.change}")
def test_the_two_of_a_pair_are_trained_alike(pair: object) -> None:
    a, b = sized(pair.a), sized(pair.b)  # type: ignore[attr-defined]
    changed = {key for key, _, _ in difference(a, b)} - {"run"}
    expected = {
        "Augmentation": {"train_dataset_cfg.data_augmentation", "train_dataset_cfg.augmentation_probability"},
        "Masking": {"model_cfg.use_masking", "model_cfg.mask_probability", "model_cfg.max_masked_concepts"},
        "Attention": {"model_cfg.use_attention", "model_cfg.num_attention_heads"},
        "Pooling": {"model_cfg.pool_type"},
        "Size of encoders": {"model_cfg.compact_stem", "model_cfg.compact_width", "model_cfg._resnet_cls"},
        "Kind of encoders": {
            "model_cfg.compact_encoders", "model_cfg.compact_stem", "model_cfg.layers", "model_cfg.use_gru",
            "model_cfg.frame_pool",
        },
    }[pair.question]  # type: ignore[attr-defined]  # fmt: skip
    assert changed and changed <= expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_every_network_can_be_built_and_is_small(row: object) -> None:
    config = sized(row.preset)  # type: ignore[attr-defined]
    model = build_model(config.encoder_module, config.model_cfg, 20)
    assert sum(parameter.numel() for parameter in model.parameters()) < LARGEST


def test_encoders_grow_in_the_paper_s_order() -> None:
    sizes = [
        sum(p.numel() for p in build_model(one.encoder_module, one.model_cfg, 20).parameters())
        for one in (sized(REFERENCE), *map(sized, _larger()))
    ]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3


def _larger() -> list[str]:
    final = "disentangle-final-experiments/disentangle-jtd+pijama-{}-noattention-avgpool-augment50-mask30concept3.yaml"
    return [final.format(name) for name in ("resnet34", "resnet50")]


def test_families_that_are_compared_see_equally_much() -> None:
    assert (STACK.n_clips, STACK.epochs, STACK.lr) == (FACTORISED.n_clips, FACTORISED.epochs, FACTORISED.lr)
    assert len({id(size) for size in (FACTORISED, STACK, RESNET, CRNN)}) == 4


def test_another_seed_is_another_run() -> None:
    config = load_config(REFERENCE)
    again = cpu_sized(config, seed=43)
    assert again.run == f"{config.run}-seed43"
    assert {key for key, _, _ in difference(cpu_sized(config), again)} == {"run", "seed"}


def test_other_networks_are_refused() -> None:
    for name in ("demo.yaml", "jazz20-cpu.yaml"):
        with pytest.raises(ConfigError, match="only the paper's networks"):
            cpu_sized(load_config(name))
