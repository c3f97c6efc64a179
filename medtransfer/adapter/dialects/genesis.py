"""Models Genesis (Zhou et al., Medical Image Analysis 2021): a 3-D U-Net pretrained on chest CT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...model_zoo.names import GENESIS
from .base import Dialect, Home, Written, rename_rules, renamed_by
from .conv_shape import conv_home

NOTE = (
    "Models Genesis normalises with the statistics of the batch, in evaluation too (so the file's running statistics "
    "are never read), and takes a sigmoid of what its head gives; its weights are for non-commercial use"
)
_RULES = rename_rules(
    (r"down_tr(\d+)\.ops\.(\d)\.conv1\.", r"stage{level \1}.\2.conv."),
    (r"down_tr(\d+)\.ops\.(\d)\.bn1\.", r"stage{level \1}.\2.bn."),
    (r"up_tr(\d+)\.up_conv\.", r"decoder_{level \1}.up."),
    (r"up_tr(\d+)\.ops\.(\d)\.conv1\.", r"decoder_{level \1}.conv.\2.conv."),
    (r"up_tr(\d+)\.ops\.(\d)\.bn1\.", r"decoder_{level \1}.conv.\2.bn."),
    (r"out_tr\.final_conv\.", "final_layer.1."),
)
_STATISTICS = re.compile(r".*\.bn1\.(running_mean|running_var|num_batches_tracked)")


class GenesisDialect(Dialect):
    """``{"state_dict": {"module.down_tr64.ops.0.conv1.weight": ...}}``; a level is named by its channels.

    Source: github.com/MrGiovanni/ModelsGenesis, ``pytorch/unet3d.py``.
    """

    name = "genesis"
    title = "Models Genesis 3-D U-Net"

    def recognises(self, written: Written) -> bool:
        """By the first convolution of its encoder."""
        return written.has(r"down_tr\d+\.ops\.0\.conv1\.weight")

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """The zoo's names; running statistics, which the network has and never reads, have none."""
        return {
            key: None if _STATISTICS.fullmatch(key) else _with_level(renamed_by(_RULES, key)) for key in written.tensors
        }

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The U-Net with max-pooling, batch statistics and ReLU."""
        found = conv_home(tensors, NOTE, pool="max", act_cfg={"type": "ReLU"})
        if found is None or any(found.arguments.get(name) != value for name, value in GENESIS.items()):
            return found
        rest = {name: value for name, value in found.arguments.items() if name not in GENESIS}
        return Home("genesis_unet", rest, NOTE)

    def card(self, written: Written) -> dict[str, Any]:
        """Its intensities: CT cut to -1000 to 1000 HU and scaled to 0..1 (``pytorch/README.md``)."""
        return {"intensity": {"scheme": "clip", "low": -1000.0, "high": 1000.0}}


def _with_level(name: str) -> str:
    """``{level 128}`` -> ``1``: levels are named by the channels of the encoder, 64 at full resolution."""
    return re.sub(r"\{level (\d+)\}", lambda found: str((int(found[1]) // 64).bit_length() - 1), name)
