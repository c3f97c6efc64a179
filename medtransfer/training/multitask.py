"""Training of several heads at once, where a case may lack some of the targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.cases import Layout
from ..data.targets import TargetLayout, assumed_targets, read_targets
from ..errors import ConfigError
from ..model_zoo.multitask import MultiTask as Network
from ..model_zoo.task_heads import OUTPUTS, RegressionHead
from .config import did_you_mean
from .loss_weights import checked_weights
from .registry import MODELS
from .tasks import Classifier, Config, Segmenter, Task, check_windows, deep_loss, in_windows

Known = Mapping[str, Mapping[str, Tensor]]
UNCERTAINTY = "uncertainty"

DEFAULT_LOSSES: dict[str, Config] = {
    "segmentation": Segmenter.default_loss,
    "classification": Classifier.default_loss,
    # in standard deviations of the training cases; outliers count as their distance, not as its square
    "regression": {"type": "SmoothL1Loss"},
}


class MultiTask(Task):
    """A network of several heads, and a loss for each.

    ``label`` is name -> ``dict(value, known)``: (N, 1, D, H, W), (N,) or (N, Q), and (N,) booleans. The loss of a head
    is that of the samples whose target is known, as if the others were not in the batch. Where it is known of none, the
    loss is 0 and so is its gradient; the head still is a part of the graph, so that processes of a distributed run,
    which see other samples, agree on what has gradients.

    Args:
        network: A module, or its config (``dict(type="multitask_resnet18")``), whose heads are the dataset's targets.
        losses: Name of a head -> module or config of its loss, called with (logits, target); values and targets of a
            regression are in standard deviations from the mean of the training cases. By default those of the single
            tasks, and SmoothL1.
        loss_weights: Name of a head -> factor of its loss, 1 where none is given; or ``"uncertainty"``: the factors
            are learnt (Kendall et al., CVPR 2018): exp(-s) for classes, exp(-s) / 2 for quantities, and s / 2
            is added for each head, s starting at 0.
        window: Voxels of the sliding windows of validation, for segmentations; None: the whole volume in one pass.
        overlap: Share by which windows overlap.
        **arguments: See :class:`~medtransfer.training.tasks.Task`.

    Raises:
        ConfigError: a name that no head has, or a factor below 0.
    """

    task = network_task = "multitask"
    best_metric = "multitask/score"
    network_hint = "A multi-task network is multitask_resnet18, multitask_vgg11 ..."
    dataset_hint = "Set dataset.type='MultiTask', a table with several targets"

    def __init__(
        self,
        network: nn.Module | Config,
        losses: Mapping[str, Any] | None = None,
        loss_weights: Mapping[str, float] | str | None = None,
        window: Sequence[int] | None = None,
        overlap: float = 0.25,
        **arguments: Any,
    ) -> None:
        super().__init__(network, **arguments)
        self.tasks = {name: self.net.head_task(name) for name in self.net.head_arguments}
        self._refuse_losses(losses or {})
        chosen = {name: (losses or {}).get(name, DEFAULT_LOSSES[task]) for name, task in self.tasks.items()}
        built = {name: one if isinstance(one, nn.Module) else MODELS.build(dict(one)) for name, one in chosen.items()}
        self.criteria = nn.ModuleDict(built)
        self.loss_weights = self._checked_weights(loss_weights)
        if self.loss_weights is None:
            self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))
        check_windows(window, overlap)
        self.window, self.overlap = window, overlap

    @property
    def net(self) -> Network:
        """The network, by its type."""
        return cast("Network", self.network)

    @classmethod
    def network_words(cls, stated: Config, layout: Layout, dataset: Any = None) -> dict[str, Any]:
        """As :class:`Task`; every target of the data is a head, with the words that the config has for it.

        Raises:
            ConfigError: the data are for another task, or the config describes a head that they have not.
        """
        if not isinstance(layout, TargetLayout):
            reason = f"the model is for multitask, the dataset for {layout.task}"
            raise ConfigError(reason, hint="Set dataset.type='MultiTask', with a table and its targets")
        words, own = {"in_channels": len(layout.channels), **stated}, stated.get("heads") or {}
        if not isinstance(own, Mapping):
            raise ConfigError(f"model.network.heads must be a dict of heads and their words, got {own!r}")
        heads: dict[str, Any] = {}
        for head in layout.heads:
            scale = {"mean": list(head.mean), "std": list(head.std)} if head.mean else {}
            found = {"task": head.task, OUTPUTS[head.task]: len(head.classes), **scale}
            heads[head.name] = {**found, **own.get(head.name, {})}
        for name in own:
            if name not in heads:
                hint = did_you_mean(name, list(heads))
                raise ConfigError(f"model.network.heads: the data have no target {name!r}", hint=hint)
        return {**words, "heads": heads}

    @classmethod
    def stated_sizes(cls, network: Config) -> tuple[int | None, int | None]:
        """Of a multi-task network the classes are its heads."""
        return super().stated_sizes(network)[0], len(network.get("heads") or {}) or None

    @classmethod
    def assumed_layout(cls, layout: Layout, dataset: Config) -> Layout:
        """With the heads that the dataset's config names."""
        return assumed_targets(layout, read_targets(dataset.get("targets")))

    def refuse_other_data(self, layout: Layout) -> None:
        """See that the network has the channels and heads of the data.

        Raises:
            ConfigError: it has not.
        """
        super().refuse_other_data(layout)
        assert isinstance(layout, TargetLayout)
        given = self.net.head_arguments.items()
        own = {name: (head["task"], head.get(OUTPUTS[head["task"]], 1)) for name, head in given}
        found = {head.name: (head.task, len(head.classes)) for head in layout.heads}
        if own != found:
            reason = f"the network's heads are {own}, but the dataset has {found}"
            raise ConfigError(reason, hint="Leave task and sizes away to take the dataset's")

    def card_facts(self, layout: Layout) -> dict[str, Any]:
        """As of every task, with the task and the classes of each head."""
        assert isinstance(layout, TargetLayout)
        heads = {head.name: {"task": head.task, "classes": list(head.classes)} for head in layout.heads}
        return {**super().card_facts(layout), "heads": heads}

    def compute_losses(self, image: Tensor, label: Known) -> dict[str, Tensor]:
        """``loss``, and before they are weighted ``loss_NAME`` of the heads of which the batch has a target."""
        outputs = self.network(self.laid_out(image))
        parts = {name: self._loss(name, output, label[name]) for name, output in outputs.items()}
        present = {name: bool(label[name]["known"].any()) for name in parts}
        total = torch.stack([self._weighted(name, part, present[name]) for name, part in parts.items()]).sum()
        return {"loss": total, **{f"loss_{name}": part.detach() for name, part in parts.items() if present[name]}}

    def _loss(self, name: str, output: Tensor | list[Tensor], target: Mapping[str, Tensor]) -> Tensor:
        known, value = target["known"], target["value"]
        outputs = [output] if isinstance(output, Tensor) else output
        if not known.any():
            # a sum over nothing: no number of the output can make it NaN
            return torch.stack([found[:0].float().sum() for found in outputs]).sum()
        if not known.all():
            outputs, value = [found[known] for found in outputs], value[known]
        head = self.net.heads[name]
        if isinstance(head, RegressionHead):
            outputs, value = [head.standardised(found) for found in outputs], head.standardised(value)
        return deep_loss(self.criteria[name], outputs, value)

    def _weighted(self, name: str, part: Tensor, present: bool) -> Tensor:
        if self.loss_weights is not None:
            return self.loss_weights[name] * part
        s = self.log_variances[list(self.tasks).index(name)]
        # a head that is not in the batch says nothing about its uncertainty
        factor = 0.5 if self.tasks[name] == "regression" else 1.0
        return factor * torch.exp(-s) * part + (0.5 * s if present else 0.0 * s)

    def predict(self, image: Tensor, label: Known | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """``dict(case, heads)`` for each case.

        ``heads`` is name -> ``labels`` (D, H, W), ``probabilities`` (K,) or ``values`` (Q,), and ``reference``, None
        where it is not known.
        """
        outputs = self._outputs(self.laid_out(image))
        results = {name: _RESULTS[self.tasks[name]](output.float()) for name, output in outputs.items()}
        return [
            {
                "case": name,
                "heads": {head: dict(self._result(head, found[i], label, i)) for head, found in results.items()},
            }
            for i, name in enumerate(case)
        ]

    def _result(self, head: str, found: Tensor, label: Known | None, index: int) -> Iterator[tuple[str, Tensor | None]]:
        task = self.tasks[head]
        yield _WORDS[task], found
        known = label is not None and bool(label[head]["known"][index])
        reference = cast("Known", label)[head]["value"][index] if known else None
        yield "reference", reference[0] if reference is not None and task == "segmentation" else reference

    def _outputs(self, image: Tensor) -> dict[str, Tensor]:
        masks = [name for name, task in self.tasks.items() if task == "segmentation"]
        if self.window is None or not masks:
            return cast("dict[str, Tensor]", self.network(image))
        maps = self.net.features(image)
        heads = self.net.heads
        pooled = {name: heads[name](image, maps) for name in self.tasks if name not in masks}

        def logits(patch: Tensor) -> Tensor:
            inner = self.net.features(patch)
            return torch.cat([heads[name](patch, inner) for name in masks], dim=1)

        whole = in_windows(image, self.window, self.overlap, logits)
        sizes = [self.net.head_arguments[name]["num_classes"] for name in masks]
        return {**pooled, **dict(zip(masks, whole.split(sizes, dim=1), strict=True))}

    def _refuse_losses(self, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in self.tasks:
                raise ConfigError(f"losses: there is no head {name!r}", hint=did_you_mean(name, list(self.tasks)))

    def _checked_weights(self, given: Mapping[str, float] | str | None) -> dict[str, float] | None:
        """One factor a head; None where they are learnt."""
        if given == UNCERTAINTY:
            return None
        if isinstance(given, str):
            raise ConfigError(f"loss_weights must be a dict or {UNCERTAINTY!r}, got {given!r}")
        return checked_weights(given, self.tasks, "head")


_WORDS = {"segmentation": "labels", "classification": "probabilities", "regression": "values"}
_RESULTS = {
    "segmentation": lambda logits: logits.argmax(dim=1),
    "classification": lambda logits: logits.softmax(dim=1),
    "regression": lambda values: values,
}

MODELS.register_module(module=MultiTask)
