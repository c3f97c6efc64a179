"""medtransfer: transfer learning on 3-D medical images.

The public names load on first use, so that ``import medtransfer`` costs no import of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MedTransferError
from .requirements import refuse_old_packages
from .version import __version__

if TYPE_CHECKING:
    from .adapter.class_map import remap_classes
    from .adapter.convert import convert
    from .adapter.diff import diff
    from .adapter.head_parts import merge_heads, split_head
    from .adapter.heads import conv_to_fc, fc_to_conv
    from .adapter.inflate import inflate_conv, resize_kernel
    from .adapter.inflate_module import inflate, to_acs
    from .adapter.input_conv import adapt_input_conv
    from .adapter.inspect import inspect
    from .adapter.multitask import to_multitask, to_single_task
    from .adapter.persist import load, save
    from .adapter.report import TransferReport
    from .adapter.share import to_classifier, to_detector, to_fcn, to_segmenter
    from .adapter.split_layer import merge_layer, split_layer
    from .adapter.transfer import transfer
    from .checking.checkup import Checkup
    from .checking.run import check
    from .checkpoint.card import ModelCard
    from .comparison.run import Outcome, compare
    from .data.anchors import suggest_anchors
    from .data.cases import Layout
    from .data.layouts import read_layout
    from .evaluation.evaluate import evaluate
    from .evaluation.evaluation import Evaluation
    from .exporting.report import ExportReport
    from .exporting.run import export
    from .finetune.calibration import fit_temperature
    from .finetune.freeze import freeze, unfreeze
    from .finetune.groups import param_groups
    from .finetune.l2sp import SourcePenalty
    from .finetune.lora import add_lora, merge_lora
    from .finetune.phases import build_phases, train_only
    from .finetune.select import collect_params
    from .finetune.trainable import trainable_table
    from .inference.batch import Batch, predict_batch
    from .inference.cam import class_activation, write_activation
    from .inference.predictor import Predictor
    from .inference.result import Prediction
    from .intensity import Intensity, IntensityRange
    from .model_zoo.catalog import create_model
    from .model_zoo.names import list_models
    from .ranking.hscore import h_score
    from .ranking.logme import logme
    from .ranking.rank import rank_sources
    from .ranking.ranking import Ranking
    from .sharing.pull import pull
    from .sharing.push import push

_HOMES = {
    "list_models": "model_zoo.names",
    "create_model": "model_zoo.catalog",
    "to_segmenter": "adapter.share",
    "to_classifier": "adapter.share",
    "to_fcn": "adapter.share",
    "to_detector": "adapter.share",
    "to_multitask": "adapter.multitask",
    "to_single_task": "adapter.multitask",
    "split_layer": "adapter.split_layer",
    "merge_layer": "adapter.split_layer",
    "suggest_anchors": "data.anchors",
    "transfer": "adapter.transfer",
    "TransferReport": "adapter.report",
    "adapt_input_conv": "adapter.input_conv",
    "inspect": "adapter.inspect",
    "save": "adapter.persist",
    "load": "adapter.persist",
    "ModelCard": "checkpoint.card",
    "Predictor": "inference.predictor",
    "fc_to_conv": "adapter.heads",
    "conv_to_fc": "adapter.heads",
    "split_head": "adapter.head_parts",
    "merge_heads": "adapter.head_parts",
    "remap_classes": "adapter.class_map",
    "inflate_conv": "adapter.inflate",
    "resize_kernel": "adapter.inflate",
    "inflate": "adapter.inflate_module",
    "to_acs": "adapter.inflate_module",
    "diff": "adapter.diff",
    "convert": "adapter.convert",
    "collect_params": "finetune.select",
    "freeze": "finetune.freeze",
    "unfreeze": "finetune.freeze",
    "param_groups": "finetune.groups",
    "add_lora": "finetune.lora",
    "merge_lora": "finetune.lora",
    "build_phases": "finetune.phases",
    "train_only": "finetune.phases",
    "SourcePenalty": "finetune.l2sp",
    "trainable_table": "finetune.trainable",
    "rank_sources": "ranking.rank",
    "Ranking": "ranking.ranking",
    "logme": "ranking.logme",
    "h_score": "ranking.hscore",
    "compare": "comparison.run",
    "Outcome": "comparison.run",
    "check": "checking.run",
    "Checkup": "checking.checkup",
    "predict_batch": "inference.batch",
    "Batch": "inference.batch",
    "class_activation": "inference.cam",
    "write_activation": "inference.cam",
    "fit_temperature": "finetune.calibration",
    "evaluate": "evaluation.evaluate",
    "export": "exporting.run",
    "ExportReport": "exporting.report",
    "Evaluation": "evaluation.evaluation",
    "read_layout": "data.layouts",
    "Layout": "data.cases",
    "Intensity": "intensity",
    "IntensityRange": "intensity",
    "Prediction": "inference.result",
    "push": "sharing.push",
    "pull": "sharing.pull",
}

__all__ = [
    "Batch",
    "Checkup",
    "Evaluation",
    "ExportReport",
    "Intensity",
    "IntensityRange",
    "Layout",
    "MedTransferError",
    "ModelCard",
    "Outcome",
    "Prediction",
    "Predictor",
    "Ranking",
    "SourcePenalty",
    "TransferReport",
    "__version__",
    "adapt_input_conv",
    "add_lora",
    "build_phases",
    "check",
    "class_activation",
    "collect_params",
    "compare",
    "conv_to_fc",
    "convert",
    "create_model",
    "diff",
    "evaluate",
    "export",
    "fc_to_conv",
    "fit_temperature",
    "freeze",
    "h_score",
    "inflate",
    "inflate_conv",
    "inspect",
    "list_models",
    "load",
    "logme",
    "merge_heads",
    "merge_layer",
    "merge_lora",
    "param_groups",
    "predict_batch",
    "pull",
    "push",
    "rank_sources",
    "read_layout",
    "remap_classes",
    "resize_kernel",
    "save",
    "split_head",
    "split_layer",
    "suggest_anchors",
    "to_acs",
    "to_classifier",
    "to_detector",
    "to_fcn",
    "to_multitask",
    "to_segmenter",
    "to_single_task",
    "train_only",
    "trainable_table",
    "transfer",
    "unfreeze",
    "write_activation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    refuse_old_packages()
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
