"""Class maps: a head for other classes that keeps the rows of the classes it knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..devices import at_least_float32
from ..errors import UsageError
from .heads import Layer, head_tensors, layer_like

#: new class -> old class, both by index or by name; None for a class that the source does not know
ClassMap = Mapping[Any, "int | str | None"]

NEW_ROWS = ("mean", "normal")
ACTIVATIONS = ("softmax", "sigmoid")

#: deviation of new rows with new_rows="normal" and probability of a new class in a sigmoid head: those of RetinaNet's
#: class layer (Lin et al., ICCV 2017, section 4.1)
NORMAL_DEVIATION = 0.01
SIGMOID_PRIOR = 0.01


def remap_classes(
    layer: Layer,
    class_map: ClassMap,
    anchors: int = 1,
    new_rows: str = "mean",
    activation: str = "softmax",
    prior: float | None = None,
    old_names: Sequence[str] | None = None,
    new_names: Sequence[str] | None = None,
) -> Layer:
    """A head for other classes: kept classes have their rows bit for bit, new ones start from their prior.

    Args:
        layer: The last layer: a fully connected one (a classifier's ``head_fc``) or a convolution (a segmenter's
            ``final_layer[1]``, ``head_conv``, a detector's class layer), with one row for each class and anchor.
        class_map: New class -> old class, None for a class that is new; see :func:`class_rows`.
        anchors: A; rows are read as (A, K), anchor after anchor, and each anchor's classes are mapped.
        new_rows: Weights of new classes, see :func:`remap_rows`.
        activation: What makes probabilities of the scores, ``"softmax"`` or ``"sigmoid"``; see :func:`remap_rows`.
        prior: Probability that a new class starts with; see :func:`remap_rows`.
        old_names: Names of the old classes, in order.
        new_names: Names of the new classes, in order.

    Returns:
        A new layer of the same type; the old one is not changed.

    Raises:
        UsageError: a class does not exist, new classes have gaps, or an option is unknown.

    >>> old = nn.Conv3d(8, 4, 1)
    >>> new = remap_classes(old, {0: 0, 1: 3, 2: None})
    >>> new.weight.shape[0], torch.equal(new.weight[1], old.weight[3])
    (3, True)
    """
    weight, bias = head_tensors(layer)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    if anchors > 0 and anchors % groups:
        raise UsageError(f"classes of a convolution of {groups} groups cannot change: each group owns some of the rows",
                         hint="Split it with split_head, and remap the parts")  # fmt: skip
    rows = class_rows(class_map, _per_anchor(weight, anchors).shape[1], old_names, new_names)
    options: dict[str, Any] = {"new_rows": new_rows, "activation": activation, "prior": prior}
    weight = remap_rows(weight, rows, anchors, **options)
    bias = None if bias is None else remap_rows(bias, rows, anchors, **options)
    size = "out_features" if isinstance(layer, nn.Linear) else "out_channels"
    return layer_like(layer, weight, bias, **{size: weight.shape[0]})


def class_rows(
    class_map: ClassMap,
    num_old: int,
    old_names: Sequence[str] | None = None,
    new_names: Sequence[str] | None = None,
) -> list[int | None]:
    """For each new class, in order, the old class whose row it starts from; None for a class that is new.

    Args:
        class_map: New class -> old class. New classes are 0 ... n - 1 or the names in ``new_names``, in any order;
            without ``new_names`` names stand in the order of their classes. Old classes are numbers or ``old_names``.
            Two new classes may start from one old class; old classes that are not named are left away.
        num_old: Number of old classes.
        old_names: Their names, where there are any.
        new_names: Names of the new classes, where there are any.

    Raises:
        UsageError: a class does not exist, or new classes have gaps.

    >>> class_rows({0: 0, 1: 3, 2: None}, num_old=4)
    [0, 3, None]
    >>> class_rows({"background": "background", "cyst": None}, num_old=2, old_names=["background", "kidney"])
    [0, None]
    """
    if old_names is not None and len(old_names) != num_old:
        raise UsageError(f"{len(old_names)} names of old classes were given, the head has {num_old} classes")
    order = _new_classes(class_map, new_names)
    return [_old_class(class_map[new], num_old, old_names) for new in order]


def remap_rows(
    tensor: Tensor,
    rows: Sequence[int | None],
    anchors: int = 1,
    new_rows: str = "mean",
    activation: str = "softmax",
    prior: float | None = None,
) -> Tensor:
    """A head's weight or bias for other classes; rows of kept classes are copied bit for bit.

    Weights of new classes are the mean of all old rows (``new_rows="mean"``: a score that is as large as the others'
    and prefers no old class), or normal with a deviation of 0.01 (``"normal"``: RetinaNet's).

    Biases of new classes are their log prior, so that where all features are zero the head answers with that prior:

    * ``"softmax"``: only differences of biases count, and those of kept classes are what training left. With K kept
      classes and M new ones of prior p each, ``b = logsumexp(kept biases) + log(p / (1 - M p))``: softmax of all
      biases then is p for each new class, and the kept ones share the rest in their old proportions. By default p is
      1 / (K + M), and b the log of the mean of the kept classes' exp(bias). With nothing kept ``b = log(1 / M)``.
    * ``"sigmoid"``: ``b = log(p / (1 - p))``, p = 0.01 by default (RetinaNet), so that the many voxels without an
      object do not swamp the first steps.

    Several new classes start with equal rows in mode ``"mean"``; their labels take them apart.

    Args:
        tensor: Weight (A * K, ...) or bias (A * K,).
        rows: For each new class an old one or None, as :func:`class_rows` gives them.
        anchors: A; means and priors are those of each anchor.
        new_rows: ``"mean"`` or ``"normal"``.
        activation: ``"softmax"`` or ``"sigmoid"``.
        prior: p; None for the defaults above.

    Returns:
        A new tensor (A * len(rows), ...) of the same dtype and device.

    Raises:
        UsageError: an option is unknown, the prior is no probability, or a row does not exist.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, sections 3.3 and 4.1, for the sigmoid's
    prior and the deviation; the softmax's bias is its counterpart for scores that compete.

    >>> remap_rows(torch.tensor([[2.0], [4.0]]), [1, None]).tolist()
    [[4.0], [3.0]]
    >>> remap_rows(torch.tensor([0.0, 0.0]), [0, 1, None], prior=0.5).softmax(0).tolist()
    [0.25, 0.25, 0.5]
    """
    table = _per_anchor(tensor, anchors)
    _check(rows, table.shape[1], new_rows, activation)
    new = table.new_empty(anchors, len(rows), *table.shape[2:])
    kept = [position for position, row in enumerate(rows) if row is not None]
    fresh = [position for position, row in enumerate(rows) if row is None]
    new[:, kept] = table[:, [cast("int", rows[position]) for position in kept]]
    if fresh:
        wide = at_least_float32(table)
        is_bias = tensor.ndim == 1
        made = (
            _biases(new[:, kept].to(wide.dtype), len(fresh), activation, prior)
            if is_bias
            else _weights(wide, len(fresh), new_rows)
        )
        new[:, fresh] = made.to(new.dtype)
    return new.flatten(0, 1)


def _weights(old: Tensor, count: int, new_rows: str) -> Tensor:
    """(A, K, ...) -> (A, count, ...)."""
    if new_rows == "mean":
        return old.mean(dim=1, keepdim=True).expand(-1, count, *old.shape[2:])
    shape = (len(old), count, *old.shape[2:])
    return torch.randn(shape, dtype=old.dtype, device=old.device) * NORMAL_DEVIATION


def _biases(kept: Tensor, count: int, activation: str, prior: float | None) -> Tensor:
    """(A, kept classes) -> (A, count)."""
    if activation == "sigmoid":
        p = _probability(SIGMOID_PRIOR if prior is None else prior, 1)
        return kept.new_full((len(kept), count), math.log(p / (1 - p)))
    if not kept.shape[1]:
        return kept.new_full((len(kept), count), -math.log(count))
    p = _probability(1 / (kept.shape[1] + count) if prior is None else prior, count)
    return (kept.logsumexp(dim=1, keepdim=True) + math.log(p / (1 - count * p))).expand(-1, count)


def _probability(prior: float, count: int) -> float:
    if not 0 < prior * count < 1:
        of = "" if count == 1 else f" of each of {count} new classes"
        raise UsageError(f"prior is the probability{of}, more than 0 and less than 1 in all, got {prior}")
    return prior


def _per_anchor(tensor: Tensor, anchors: int) -> Tensor:
    """(A * K, ...) -> (A, K, ...)."""
    if anchors < 1 or tensor.shape[0] % anchors:
        raise UsageError(f"the head's {tensor.shape[0]} rows are not a multiple of {anchors} anchors")
    return tensor.unflatten(0, (anchors, -1))


def _check(rows: Sequence[int | None], num_old: int, new_rows: str, activation: str) -> None:
    for name, value, known in (("new_rows", new_rows, NEW_ROWS), ("activation", activation, ACTIVATIONS)):
        if value not in known:
            raise UsageError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if not rows:
        raise UsageError("a head needs at least one class, the class map is empty")
    for row in rows:
        _old_class(row, num_old, None)


def _new_classes(class_map: ClassMap, names: Sequence[str] | None) -> list[int | str]:
    """The map's keys in the order of the new classes."""
    numbers = [key for key in class_map if _is_number(key)]
    by_number = bool(numbers) or names is None
    known: Sequence[int | str] = range(len(class_map)) if numbers else list(class_map) if names is None else names
    if by_number and names is not None and len(names) != len(class_map):
        raise UsageError(
            f"the class map must have a row for each of {len(names)} new classes ({', '.join(names)}), "
            f"got {len(class_map)}",
            hint="Give each an old class, or None",
        )
    odd = [key for key in class_map if key not in known] + [key for key in known if key not in class_map]
    if odd:
        wanted = f"0 to {len(class_map) - 1} without gaps" if by_number else ", ".join(map(str, known))
        raise UsageError(
            f"the class map's new classes must be {wanted}, got {', '.join(map(str, class_map)) or 'none'}"
        )
    return list(known)


def _old_class(old: int | str | None, count: int, names: Sequence[str] | None) -> int | None:
    if old is None:
        return None
    if names is not None and old in names:
        return list(names).index(cast("str", old))
    if _is_number(old) and 0 <= cast("int", old) < count:
        return cast("int", old)
    said = f"old classes are {', '.join(names)}" if names else f"old classes are 0 to {count - 1}, without names"
    raise UsageError(f"the class map names the old class {old!r}; {said}", hint="None starts a class anew")


def _is_number(key: object) -> bool:
    return isinstance(key, int) and not isinstance(key, bool)
