"""ResNet-50 for single piano rolls, optionally with instance-batch norm.

Shapes: B clips, D = 2048 features, K pianists.
Source: He et al., "Deep Residual Learning for Image Recognition", 2016, in the form known as v1.5 (the stride is in
the 3x3 convolution).
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from pianistid_core.models.blocks import PianistModel, make_norm, make_pooling
from pianistid_core.models.options import ResNetOptions

STEM_CHANNELS = 64
STAGE_WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
FEATURES = STAGE_WIDTHS[-1] * EXPANSION


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut: (B, in, H, T) to (B, 4 * width, H / stride, T / stride)."""

    def __init__(self, in_channels: int, width: int, *, stride: int, norm_type: str) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = make_norm(norm_type, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, make_norm(norm_type, out_channels))

    def forward(self, maps: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(maps)), inplace=True)
        inner = functional.relu(self.bn2(self.conv2(inner)), inplace=True)
        return functional.relu(self.bn3(self.conv3(inner)) + self.downsample(maps), inplace=True)


def _make_stage(in_channels: int, width: int, *, blocks: int, stride: int, norm_type: str) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride=stride, norm_type=norm_type)
    rest = [Bottleneck(width * EXPANSION, width, stride=1, norm_type=norm_type) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class ResNetModel(PianistModel):
    """A residual network of bottleneck blocks over single piano rolls."""

    def __init__(self, options: ResNetOptions, num_classes: int) -> None:
        super().__init__(in_channels=1, num_classes=num_classes, feature_size=FEATURES, frame_pool=options.frame_pool)
        self.conv1 = nn.Conv2d(1, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        in_channels = STEM_CHANNELS
        for number, (width, blocks) in enumerate(zip(STAGE_WIDTHS, options.layers, strict=True), start=1):
            # The last stage keeps batch norm: what tells classes apart is left alone.
            norm_type = "bn" if number == len(STAGE_WIDTHS) else options.norm_type
            stage = _make_stage(in_channels, width, blocks=blocks, stride=1 if number == 1 else 2, norm_type=norm_type)
            self.add_module(f"layer{number}", stage)
            in_channels = width * EXPANSION
        self.pooling = make_pooling(options.pool_type)
        self.fc = nn.Linear(FEATURES, num_classes)

    def forward_features(self, rolls: Tensor) -> Tensor:
        maps = self.conv1(self.prepare(rolls))
        maps = self.maxpool(functional.relu(self.bn1(maps), inplace=True))
        for number in range(1, len(STAGE_WIDTHS) + 1):
            maps = self.get_submodule(f"layer{number}")(maps)
        return cast(Tensor, self.pooling(maps))

    def head(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.fc(features))
