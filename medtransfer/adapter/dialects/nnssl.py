"""nnssl (Wald et al., 2024): nnU-Net's residual encoder, pretrained without labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from .base import Home, Written
from .nnunet import NNUNetDialect
from .nnunet_plans import Plans, geometry, intensity, mapping, numbers, read_plans

NOTE = "it was pretrained without labels: the encoder is what it is for, and its head, if any, gives images back"


class NnsslDialect(NNUNetDialect):
    """nnU-Net's file with ``nnssl_adaptation_plan``: the architecture by name, and the plan of the pretraining.

    What the pretraining adds to the network (``mask_tokens``, ``densify_*``) has no place in the zoo. Source:
    github.com/MIC-DKFZ/nnssl, ``adaptation_planning/adaptation_plan.py``, ``architectures/architecture_registry.py``.
    """

    name = "nnssl"
    title = "nnssl, a residual encoder pretrained without labels"

    def recognises(self, written: Written) -> bool:
        """By the adaptation plan beside the weights of an encoder of nnU-Net."""
        return isinstance(written.metadata.get("nnssl_adaptation_plan"), Mapping) and super().recognises(written)

    def can_read(self, written: Written) -> bool:
        """Any weights with nnU-Net's keys."""
        return super().recognises(written)

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The network of nnU-Net with these tensors, and what it learned."""
        found = super().home(tensors, written)
        return None if found is None else Home(found.name, found.arguments, "; ".join(filter(None, (NOTE, found.note))))

    def card(self, written: Written) -> dict[str, Any]:
        """Spacing and intensities of the pretraining, and the patch that is recommended after it."""
        plan = _plan(written)
        scheme, _ = intensity(plan)
        stated = {**geometry(plan)[0], **({} if scheme is None else {"intensity": scheme})}
        patch = [
            int(size) for size in numbers(_adaptation(written).get("recommended_downstream_patchsize"), 1, 100_000)
        ]
        return {**stated, **({"patch_size": patch} if len(patch) == 3 else {})}

    def _plans(self, written: Written) -> Plans:
        return _plan(written)

    def _data_notes(self, home: Home, plans: Plans) -> Iterator[str]:
        yield from (intensity(plans)[1], geometry(plans)[1])


def _adaptation(written: Written) -> Mapping[str, Any]:
    return mapping(written.metadata.get("nnssl_adaptation_plan"))


def _plan(written: Written) -> Plans:
    """The plan of the pretraining, which has one configuration, in the shape of nnU-Net's."""
    whole = mapping(_adaptation(written).get("pretrain_plan"))
    architecture = mapping(_adaptation(written).get("architecture_plans"))
    network = {
        "network_class_name": architecture.get("arch_class_name", ""),
        # presets are known by name alone: nnU-Net's residual encoder L
        "arch_kwargs": mapping(architecture.get("arch_kwargs")) or {"nonlin": "torch.nn.LeakyReLU"},
    }
    name, part = next(iter(mapping(whole.get("configurations")).items()), ("", {}))
    mask = mapping(part).get("use_mask_for_norm")
    configuration = {
        **mapping(part),
        "use_mask_for_norm": mask if isinstance(mask, list) else [mask],
        "architecture": network,
    }
    plans = {**whole, "configurations": {name: configuration}}
    return read_plans({"init_args": {"plans": plans, "configuration": name}})
