"""The CNN and the CRNN of the paper: eight blocks of convolution, and what reads their maps.

Shapes: B clips, T frames, D = 512 features, K pianists. The trunk's three 2x2 poolings take the 88 keys to 11.
"""

from typing import cast

from torch import Tensor

from pianistid_core.models.blocks import ConvBlock, HeadLayer, PianistModel, RecurrentBlock, make_pooling
from pianistid_core.models.options import CnnOptions, CrnnOptions
from pianistid_core.rolls import N_KEYS

TRUNK_CHANNELS = (64, 64, 128, 128, 256, 256, 512, 512)
POOLED_BLOCKS = (2, 4, 6)
POOLED_KEYS = N_KEYS // 2 ** len(POOLED_BLOCKS)
FEATURES = TRUNK_CHANNELS[-1]
HEAD_WIDTH = 128


class CnnModel(PianistModel):
    """Eight blocks of convolution, pooled over keys and time, and a head of two layers."""

    def __init__(self, options: CnnOptions | CrnnOptions, num_classes: int) -> None:
        super().__init__(in_channels=1, num_classes=num_classes, feature_size=FEATURES, frame_pool=options.frame_pool)
        in_channels = 1
        for number, out_channels in enumerate(TRUNK_CHANNELS, start=1):
            pool_size = 2 if number in POOLED_BLOCKS else 1
            block = ConvBlock(in_channels, out_channels, norm_type=options.norm_type, pool_size=pool_size)
            self.add_module(f"layer{number}", block)
            in_channels = out_channels
        self.pooling = make_pooling(options.pool_type)
        self.fc1 = HeadLayer(FEATURES, HEAD_WIDTH)
        self.fc2 = HeadLayer(HEAD_WIDTH, num_classes)

    def trunk(self, rolls: Tensor) -> Tensor:
        """Takes rolls (B, 1, 88, 3000) to maps (B, 512, 11, T)."""
        maps = self.prepare(rolls)
        for number in range(1, len(TRUNK_CHANNELS) + 1):
            maps = self.get_submodule(f"layer{number}")(maps)
        return maps

    def forward_features(self, rolls: Tensor) -> Tensor:
        return cast(Tensor, self.pooling(self.trunk(rolls)))

    def head(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.fc1(features)))


class CrnnModel(CnnModel):
    """The CNN's trunk, read along time by a bidirectional GRU and pooled over time."""

    def __init__(self, options: CrnnOptions, num_classes: int) -> None:
        super().__init__(options, num_classes)
        self.gru = RecurrentBlock(FEATURES, POOLED_KEYS, hidden_size=FEATURES // 2)

    def forward_features(self, rolls: Tensor) -> Tensor:
        return cast(Tensor, self.pooling(self.gru(self.trunk(rolls))))
