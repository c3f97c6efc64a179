"""nnssl's file: nnU-Net's residual encoder with an adaptation plan beside the weights.

The network is dynamic_network_architectures' ``ResidualEncoderUNet``, so its golden values are those of nnU-Net's
(see ``nnunet_oracle``); the layout is that of github.com/MIC-DKFZ/nnssl at commit 7044864,
``training/nnsslTrainer/AbstractTrainer.py::save_checkpoint`` and ``adaptation_planning/adaptation_plan.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.adapter.dialects import nnunet_oracle as nnunet
from tests.adapter.dialects.oracle_case import OracleCase, load_golden


def checkpoint(name: str = "residual") -> dict[str, Any]:
    """What its trainer saves; numpy is converted there."""
    configuration = {
        "data_identifier": "nnsslPlans_onemmiso",
        "preprocessor_name": "DefaultPreprocessor",
        "spacing_style": "onemmiso",
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": False,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3},
        "resampling_fn_mask": "resample_data_or_seg_to_shape",
        "resampling_fn_mask_kwargs": {"is_seg": True, "order": 1},
        "spacing": [1.0, 1.0, 1.0],
        "patch_size": [160, 160, 160],
    }
    plan = {
        "dataset_name": "Dataset745_OpenMind",
        "plans_name": "nnsslPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"onemmiso": configuration},
        "experiment_planner_used": "FixedResEncUNetPlanner",
    }
    return {
        "network_weights": nnunet.filled(nnunet.SPECS[name]),
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"train_losses": [0.5, 0.25]},
        "_best_ema": 0.25,
        "current_epoch": 1000,
        "init_args": {"configuration_name": "onemmiso", "fold": "all"},
        "trainer_name": "BaseMAETrainer",
        "nnssl_adaptation_plan": {
            "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None,
                                   "arch_kwargs_requiring_import": None},
            "pretrain_plan": plan,
            "pretrain_num_input_channels": 1,
            "recommended_downstream_patchsize": (160, 160, 160),
            "key_to_encoder": "encoder.stages",
            "key_to_stem": "encoder.stem",
            "keys_to_in_proj": ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"),
            "key_to_lpe": None,
        },
    }  # fmt: skip


def cases(folder: Path) -> list[OracleCase]:
    """A masked autoencoder's file."""
    path = folder / "nnssl.pth"
    torch.save(checkpoint(), path)
    maps = load_golden(nnunet.GOLDEN / "nnunet_residual.npz")
    x = nnunet.x_of(nnunet.SPECS["residual"])
    return [OracleCase("nnssl", path, x, maps, nnunet.ORACLE, "masked autoencoder", nnunet.maps_here)]
