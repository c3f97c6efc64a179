"""The README.md of a model folder, drawn from its card alone."""

from __future__ import annotations

from collections.abc import Iterable

import jinja2

from .card import Intensity, ModelCard

_TEMPLATE = """\
# {{ name | cell }}

{{ card.description | cell or "A network for 3-D medical images." }}

- Task: {{ card.task }}
- Architecture: `{{ card.architecture.name }}`{{ arguments }}
- Weights: `model.safetensors`, sha256 `{{ card.sha256 }}`
- Licence: {{ card.license | cell or "not stated" }}

> **Not a medical device.** For research only; not for diagnosis or treatment.

## Input

Channels, in this order:

{% for channel in card.input_channels %}{{ loop.index }}. {{ channel | cell }}
{% endfor %}
Preparation, done by medtransfer from this card:

- Orientation: {{ card.orientation }}
- Spacing: {{ spacing }}
- Intensity: {{ intensity }}
{% for name, range in ranges %}- {{ name | cell }} in the training scans: {{ range }}
{% endfor %}- Patch size in training: {{ patch_size }}

## Output
{% for head, task, classes in outputs %}{% if head %}
`{{ head }}`, {{ task }}:
{% endif %}
| value | {{ "quantity" if task == "regression" else "class" }} |
| --- | --- |
{% for name in classes %}| {{ loop.index0 }} | {{ name | cell }} |
{% endfor %}{% endfor %}{% if card.temperature %}
Logits are divided by {{ "%.4g" | format(card.temperature) }} before the softmax: a temperature fitted to labels.
{% endif %}
## Use

```
medtransfer predict -m FOLDER -i scan.nii.gz -o OUTPUT
```

```python
import medtransfer as mt

result = mt.Predictor("FOLDER").predict("scan.nii.gz")
```
{% if card.metrics %}
## Measured

| figure | value |
| --- | --- |
{% for key, value in card.metrics.items() %}| {{ key | cell }} | {{ "%.4g" | format(value) }} |
{% endfor %}{% endif %}
## Origin

{% for key, value in origin %}- {{ key | cell }}: {{ value | cell }}
{% else %}Trained from scratch, or not stated.
{% endfor %}
Written with {{ versions | cell }}.
"""


def render_readme(card: ModelCard, name: str) -> str:
    """Draw the README of a model folder called ``name``.

    >>> from medtransfer.checkpoint.card import Architecture
    >>> card = ModelCard(task="segmentation", architecture=Architecture("resunet18"), input_channels=["T1"],
    ...                  classes=["background", "hippocampus"], spacing=[1.0, 1.0, 1.0])
    >>> text = render_readme(card, "hippocampus")
    >>> "| 1 | hippocampus |" in text, "1 x 1 x 1 mm" in text, "Not a medical device" in text
    (True, True, True)
    """
    environment = jinja2.Environment(autoescape=False, trim_blocks=False, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    arguments = ", ".join(f"{key}={value!r}" for key, value in card.architecture.arguments.items())
    return environment.from_string(_TEMPLATE).render(
        card=card,
        name=name,
        arguments=f" with `{arguments}`" if arguments else "",
        spacing=f"{_by(card.spacing)} mm" if card.spacing else "as scanned",
        patch_size=f"{_by(card.patch_size)} voxels" if card.patch_size else "any",
        intensity=_channel_words(card),
        ranges=_ranges(card),
        outputs=_outputs(card),
        versions=", ".join(f"{key} {value}" for key, value in card.versions.items()),
        origin=[(key, value) for key, value in (card.parent or {}).items() if isinstance(value, str | int | float)],
    )


def _outputs(card: ModelCard) -> list[tuple[str, str, list[str]]]:
    """Name, task and classes of every head; the only head of most networks has no name."""
    if card.heads:
        return [(name, head.task, head.classes) for name, head in card.heads.items()]
    return [("", card.task, card.classes)]


def _by(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _channel_words(card: ModelCard) -> str:
    """The one scheme of all channels, or each with its channel's name."""
    if isinstance(card.intensity, Intensity):
        return _intensity_words(card.intensity)
    named = zip(card.input_channels, card.intensity, strict=True)
    return "; ".join(f"{_cell(name)}: {_intensity_words(intensity)}" for name, intensity in named)


def _ranges(card: ModelCard) -> list[tuple[str, str]]:
    ranges = [f"{seen.low:.4g} ... {seen.high:.4g}" for seen in card.intensity_ranges or ()]
    return list(zip(card.input_channels, ranges, strict=False))


def _intensity_words(intensity: Intensity) -> str:
    if intensity.scheme == "clip":
        return f"cut to {intensity.low:g} ... {intensity.high:g}, then scaled to 0 ... 1"
    if intensity.scheme == "ct":
        return f"cut to {intensity.low:g} ... {intensity.high:g}, then minus {intensity.mean:g}, over {intensity.std:g}"
    if intensity.scheme == "percentile":
        low, high = intensity.low_percentile, intensity.high_percentile
        return f"the scan's percentiles {low:g} and {high:g} to 0 ... 1, what lies outside cut"
    voxels = "voxels that are not 0" if intensity.nonzero else "all voxels"
    return f"z-score of each channel over {voxels}" if intensity.scheme == "zscore" else "as stored"


def _cell(value: object) -> str:
    """Text that stays text in a Markdown table: one line, no tags, no column marks."""
    text = " ".join(str(value).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
