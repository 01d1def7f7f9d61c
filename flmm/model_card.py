"""The card of a head: what the hub shows of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flmm.config import with_key

LIBRARY = "flmm"
LMM_KEY = "pretrained_model_name_or_path"
TEXT = """# {title}

A head of F-LMM ([paper](https://arxiv.org/abs/2406.05821)): it turns the attention of a frozen multimodal model (LMM)
into masks of the phrases that the model reads or says. It has {parameters:,} trained parameters. The LMM and SAM's
image encoder are not in here, and training did not change them.

![Picture, attention, coarse and refined masks of each phrase](example.png)

{drawn}

```python
import flmm

model = flmm.load("{name}")
result = model.ground("photo.jpg", "a brown dog on a sofa", ["a brown dog", "a sofa"])
result.draw().save("picture.png")
```

Loading reads tensors (safetensors) and a config that is data (JSON): no code of this folder is run.

## What it needs

| | |
|---|---|
{needs}

## Figures

{figures}

## License

The head: {license}. The LMM, SAM's weights and the training data have licenses of their owners.
"""


def is_card(file: Path) -> bool:
    """Tell whether a file is a card that `card` wrote."""
    return f"library_name: {LIBRARY}\n" in file.read_text(encoding="utf-8", errors="replace")


def card(
    name: str, data: Mapping[str, Any], metrics: Mapping[str, Any], license: str, parameters: int, drawn: bool
) -> str:
    """Write the card.

    Args:
        name: What the reader is to load: a folder or a name on the hub.
        data: The config, as data.
        metrics: Numbers by name, mappings inside mappings.
        license: Of the head.
        parameters: How many are trained.
        drawn: Whether the example is a drawn scene.

    Returns:
        Markdown, after metadata that the hub reads.
    """
    from huggingface_hub import ModelCardData

    lmms = sorted({node[LMM_KEY] for node in with_key(data["model"], LMM_KEY) if isinstance(node[LMM_KEY], str)})
    on_hub = [lmm for lmm in lmms if lmm.count("/") == 1 and not Path(lmm).exists()]
    about = ModelCardData(
        license=license,
        library_name=LIBRARY,
        pipeline_tag="image-segmentation",
        base_model=on_hub or None,
        tags=["f-lmm", "grounding", "referring-expression-segmentation", "panoptic-narrative-grounding"],
    )
    text = TEXT.format(
        title=Path(name).name,
        name=name,
        parameters=parameters,
        needs="\n".join(_needs(data["model"], lmms)),
        figures=_figures(metrics),
        license=license,
        drawn="The picture is a drawn scene, which no LMM was trained for." if drawn else "",
    )
    return f"---\n{about.to_yaml()}\n---\n\n" + text.replace("\n\n\n\n", "\n\n")


def _needs(model: Mapping[str, Any], lmms: list[str]) -> Iterator[str]:
    yield from (f"| LMM | `{lmm}` |" for lmm in lmms)
    sam = model.get("sam") or {}
    if sam.get("checkpoint"):
        yield f"| SAM | `{sam['checkpoint']}` ({sam.get('model_name')}); `flmm download` fetches the published ones |"


def _figures(metrics: Mapping[str, Any]) -> str:
    rows = [f"| {' / '.join(names)} | {value:.4g} |" for names, value in _numbers(metrics)]
    return "\n".join(["| figure | value |", "|---|---|", *rows]) if rows else "None are known."


def _numbers(node: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Numbers inside mappings, with the names that lead to them."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _numbers(value, (*names, str(name)))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield names, node
