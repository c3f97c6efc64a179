"""The README.md of a model folder, drawn from its card alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

import jinja2

from .card import Intensity, ModelCard
from .front_matter import front_matter

NOT_STATED = "Not stated."

_TEMPLATE = """\
{{ front_matter }}

# {{ name | cell }}

{{ card.description | prose or "A network for 3-D medical images." }}

- Task: {{ card.task }}
- Architecture: `{{ card.architecture.name }}`{{ arguments }}
- Weights: `model.safetensors`, sha256 `{{ card.sha256 }}`
- Licence: {{ card.license | cell or "not stated" }}

> **Not a medical device.** For research only; not for diagnosis or treatment.

## Intended use

{{ card.intended_use | prose or not_stated }}

Out of scope: {{ card.out_of_scope | prose or "diagnosis and treatment; nothing else is stated." }}

## Training data

{{ card.training_data | prose or not_stated }}

Cases trained on: {{ card.training_cases or "not stated" }}

## Input

Channels, in this order:

{% for channel in card.input_channels %}{{ loop.index }}. {{ channel | cell }}
{% endfor %}
Preparation, done by medtransfer from `model.json`:

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
## Measured

{% if card.metrics %}| figure | value |
| --- | --- |
{% for key, value in card.metrics.items() %}| {{ key | cell }} | {{ "%.4g" | format(value) }} |
{% endfor %}{% else %}{{ not_stated }}
{% endif %}
## Limitations

{{ card.limitations | prose or not_stated }}

## Use

```
{% if repository %}medtransfer pull {{ repository }}@COMMIT -o FOLDER
{% endif %}medtransfer predict -m FOLDER -i scan.nii.gz -o OUTPUT
```

```python
import medtransfer as mt

result = mt.Predictor("FOLDER").predict("scan.nii.gz")
```

## Origin

{% for key, value in origin %}- {{ key | cell }}: {{ value | cell }}
{% else %}Trained from scratch, or not stated.
{% endfor %}
Written with {{ versions | cell }}.
"""


def render_readme(card: ModelCard, name: str, repository: str | None = None) -> str:
    """Draw the page of a model: what it is, is for, was trained on, takes, gives and lacks, all from its card.

    It opens with the metadata that a hub reads. What the card leaves open is shown as not stated.

    Args:
        card: The model's card.
        name: The heading, which is the name of its folder.
        repository: ``ORG/NAME`` on a hub, where the page is to say how the model is pulled.

    >>> from medtransfer.checkpoint.card import Architecture
    >>> card = ModelCard(task="segmentation", architecture=Architecture("resunet18"), input_channels=["T1"],
    ...                  classes=["background", "hippocampus"], spacing=[1.0, 1.0, 1.0])
    >>> text = render_readme(card, "hippocampus")
    >>> "| 1 | hippocampus |" in text, "1 x 1 x 1 mm" in text, "Not a medical device" in text
    (True, True, True)
    """
    environment = jinja2.Environment(autoescape=False, trim_blocks=False, keep_trailing_newline=True)
    environment.filters.update(cell=_cell, prose=_prose)
    arguments = ", ".join(f"{key}={value!r}" for key, value in card.architecture.arguments.items())
    return environment.from_string(_TEMPLATE).render(
        card=card,
        name=name,
        repository=repository,
        front_matter=front_matter(card),
        not_stated=NOT_STATED,
        arguments=f" with `{arguments}`" if arguments else "",
        spacing=f"{_by(card.spacing)} mm" if card.spacing else "as scanned",
        patch_size=f"{_by(card.patch_size)} voxels" if card.patch_size else "any",
        intensity=intensity_words(card),
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


def intensity_words(card: ModelCard) -> str:
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
    """Text that stays text in a Markdown table: one line, no tags, no column marks, no links or pictures."""
    return _untagged(value).replace("|", "\\|").replace("[", "\\[")


def _prose(text: str | None) -> str:
    """Paragraphs that people wrote, with their links; tags are shown, not obeyed."""
    paragraphs = filter(None, map(_untagged, re.split(r"\n\s*\n", text or "")))
    # a fence that nobody closes would swallow the rest of the page
    return "\n\n".join(re.sub(r"^(```|~~~)", r"\\\1", paragraph) for paragraph in paragraphs)


def _untagged(value: object) -> str:
    return " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
