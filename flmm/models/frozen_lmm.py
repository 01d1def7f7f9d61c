"""Ground phrases with a frozen LMM, step by step as in the paper's figure 2; the same code for every LMM."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from xtuner.registry import BUILDER

from flmm.models.backbone import Backbone, Reading
from flmm.models.functional import crop_to_picture, rows_by_phrase, split_by_phrase, stack_maps, weigh_layers
from flmm.models.keywords import KeywordSelector, is_caption
from flmm.models.losses import average_over_masks, mask_losses, resize_ground_truth
from flmm.models.presence import word_support
from flmm.models.reader import Merge, Reader, Sample

Output = dict[str, Any]


def build(part: Any, **given: Any) -> Any:
    """Build a config dict with a `type`; return anything else as it is.

    Args:
        part: Config dict or finished object.
        **given: Keywords that take the place of those in the config.
    """
    return BUILDER.build({**part, **given}) if isinstance(part, dict) else part


def build_selector(keywords: Any, backbone: Backbone) -> Any:
    """Build a KeywordSelector from settings without the sizes of the LMM; return a built one, or None, as it is."""
    if isinstance(keywords, dict):
        keywords = {"type": KeywordSelector, **keywords}
    return build(keywords, num_layers=backbone.num_layers, hidden_size=backbone.hidden_size)


class FrozenLMM(BaseModel):
    """A frozen LMM, a U-Net over its attention maps and, optionally, SAM.

    Args:
        backbone: The adapter of the LMM.
        mask_head: UNetHead or its config; a config gets `in_channels` from the LMM, whatever it says.
        loss_mask: Pixel loss or its config; only needed for training.
        loss_dice: Dice loss or its config; only needed for training.
        merge: How the attention rows of a phrase become one.
        sam: SAMWrapper or its config; None stops at the coarse masks.
        pretrained: Checkpoint of the trained parameters.
        max_tokens: Most tokens that the LMM reads in one pass, over the samples of a batch.
        cache: TensorCache or its config (`flmm.training.cache`); None keeps nothing.
        keywords: Settings of a `KeywordSelector`, or one; None leaves it out.
        train_only: 'keywords' trains the selector alone, made if need be; the rest of the head is saved as it is.
        attention_layers: Layers whose attention maps the U-Net sees; all without.
        text_layers: Layers whose hidden states SAM's text prompt is made of; all without.

    Attributes:
        read: Runs the LMM over samples: list of samples -> list of Reading.
        encode: Runs SAM's image encoder: list of pictures -> list of Embedding; None without SAM.
    """

    def __init__(
        self,
        backbone: Backbone,
        mask_head: Any,
        loss_mask: Any = None,
        loss_dice: Any = None,
        merge: Merge = "mean",
        sam: Any = None,
        pretrained: str | None = None,
        max_tokens: int = 16_384,
        cache: Any = None,
        keywords: Any = None,
        train_only: Literal["keywords"] | None = None,
        attention_layers: Sequence[int] | None = None,
        text_layers: Sequence[int] | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.attention_layers = chosen_layers(attention_layers, len(backbone.attending), "attention_layers")
        self.text_layers = chosen_layers(text_layers, backbone.num_layers, "text_layers")
        channels = backbone.num_channels // len(backbone.attending) * len(self.attention_layers)
        self.mask_head = build(mask_head, in_channels=channels)
        self.sam = build(sam)
        if self.sam is not None:
            self.text_layer_weights = nn.Parameter(torch.ones(len(self.text_layers)))
            self.text_proj = nn.Linear(backbone.hidden_size, self.sam.embed_dim)
        self.loss_mask = build(loss_mask)
        self.loss_dice = build(loss_dice)
        if train_only not in (None, "keywords"):
            raise ValueError(f"train_only={train_only!r}, but only 'keywords' can be trained alone")
        self.train_only = train_only
        self.keywords = build_selector({} if train_only and keywords is None else keywords, backbone)
        self.cache = build(cache)
        self.read = Reader(backbone, merge, max_tokens, keep_text=self.keywords is not None)
        self.encode = None if self.sam is None else self.sam.encode
        if self.cache is not None:
            self.read = self.cache.reader(self.read)
            self.encode = self.cache.encoder(self.sam)
        if pretrained is not None:
            from flmm.checkpoint import load_head

            load_head(self, pretrained)

    def forward(
        self,
        data: Sample | list[Sample],
        data_samples: Any = None,
        mode: Literal["loss", "predict", "tensor"] = "loss",
    ) -> Any:
        """Run one mode; MMEngine's loops call this.

        Args:
            data: One sample or a list of them (docs/data.md has the keys).
            data_samples: Unused; part of MMEngine's interface.
            mode: 'loss' for the training terms, 'predict' for refined masks, 'tensor' for all of `ground`.

        Returns:
            'loss': dict of scalars. 'predict' and 'tensor': one result for one sample, a list for a list.
        """
        if mode not in ("loss", "predict", "tensor"):
            raise ValueError(f"mode={mode!r} is not one of 'loss', 'predict', 'tensor'")
        samples = [data] if isinstance(data, dict) else data
        if mode == "loss":
            return self.loss(samples)
        with torch.no_grad():
            results: list[Any] = self.ground(samples) if mode == "tensor" else self.refined(samples)
        return results[0] if isinstance(data, dict) else results

    def predict(self, sample: Sample) -> Tensor:
        """Return logits [M, H, W] of the refined masks at image size; without SAM the coarse ones [M, h', w']."""
        return self(sample, mode="predict")

    def refined(self, samples: list[Sample]) -> list[Tensor]:
        """Do as `predict` for several samples; no presence is computed."""
        key = "pred_masks" if self.sam is None else "sam_pred_masks"
        return [output[key] for output in self.ground_readings(self.read(samples), samples)]

    def ground(self, samples: list[Sample]) -> list[Output]:
        """Ground the phrases of samples.

        Returns:
            For each sample `pred_masks` [M, h', w'] coarse logits over the picture, `mask_attentions` [M, C, h, w],
            `mask_ids` [S] and, with SAM, `sam_pred_masks` [M, H, W] logits at the size of the picture,
            `hidden_states` [T_total, D] and `text_embeds` M x [T, embed_dim]; `presence` [M] is how well the LMM
            itself would have said the phrases (`flmm.models.presence`).

        Raises:
            ValueError: When a phrase has no token.
        """
        readings = self.read(samples)
        outputs = self.ground_readings(readings, samples)
        for output, reading, sample in zip(outputs, readings, samples, strict=True):
            output["presence"] = self.presence(reading, sample["input_ids"][sample["mask_ids"] >= 0])
        return outputs

    @torch.no_grad()
    def presence(self, reading: Reading, token_ids: Tensor) -> Tensor:
        """Score [M] how well the LMM would have said the phrases of a reading, with tokens `token_ids` [T_total]."""
        hidden, phrases = reading.hidden[-1], reading.phrase_ids
        return word_support(self.backbone.vocabulary, hidden, token_ids, phrases, reading.num_phrases)

    def ground_readings(self, readings: list[Reading], samples: list[Sample]) -> list[Output]:
        """Do as `ground` for text that the LMM has already read, or said (`Answer.reading`)."""
        maps = [stack_maps(self._attention(reading), self.backbone.channel_order) for reading in readings]
        outputs = [
            {"pred_masks": masks, "mask_attentions": own, "mask_ids": reading.mask_ids}
            for masks, own, reading in zip(self.coarse_masks(maps, samples), maps, readings, strict=True)
        ]
        if self.sam is not None and self.encode is not None:
            for output, reading in zip(outputs, readings, strict=True):
                output |= self.embed_text(reading)
            features = self.encode([sample["image"] for sample in samples])
            prompts = ([output[key] for output in outputs] for key in ("pred_masks", "text_embeds"))
            for output, refined in zip(outputs, self.sam.refine(features, *prompts), strict=True):
                output["sam_pred_masks"] = refined
        return outputs

    def _attention(self, reading: Reading) -> list[Tensor]:
        """Return V tensors [L', A, M, h, w] of the layers that are used."""
        if len(self.attention_layers) == len(self.backbone.attending):
            return reading.attention
        return [view[self.attention_layers] for view in reading.attention]

    def coarse_masks(self, maps: list[Tensor], samples: list[Sample]) -> list[Tensor]:
        """Turn maps [M, C, h, w] of each sample into logits [M, h', w'] over its picture."""
        masks = in_batches(lambda batch: self.mask_head(batch)[:, 0], maps)
        if not self.backbone.views_include_padding:
            return masks
        return [crop_to_picture(own, sample["meta_data"]) for own, sample in zip(masks, samples, strict=True)]

    def embed_text(self, reading: Reading) -> Output:
        """Return layer-weighted `hidden_states` [T_total, D] and `text_embeds`, M x [T, embed_dim]."""
        every = len(self.text_layers) == self.backbone.num_layers
        layers = reading.hidden if every else reading.hidden[self.text_layers]
        hidden = weigh_layers(layers, self.text_layer_weights)
        embeds = self.text_proj(hidden.to(self.text_proj.weight.dtype))
        return {
            "hidden_states": hidden,
            "text_embeds": split_by_phrase(embeds, rows_by_phrase(reading.phrase_ids)),
        }

    def loss(self, samples: list[Sample]) -> dict[str, Tensor]:
        """Compute losses of coarse (`*`) and refined (`sam_*`) masks, averaged over all masks, and of keywords."""
        if self.train_only == "keywords":
            captions = [sample for sample in samples if is_caption(sample)]
            return self.keywords.loss(self.read(captions) if captions else [])
        readings = self.read(samples)
        terms = self._all_mask_losses(readings, samples)
        if self.keywords is not None:
            pairs = zip(readings, samples, strict=True)
            terms |= self.keywords.loss([reading for reading, sample in pairs if is_caption(sample)])
        return terms

    def _all_mask_losses(self, readings: list[Reading], samples: list[Sample]) -> dict[str, Tensor]:
        terms = []
        for sample, output in zip(samples, self.ground_readings(readings, samples), strict=True):
            term = self._mask_losses(output["pred_masks"], sample)
            if self.sam is not None:
                refined = self._mask_losses(output["sam_pred_masks"], sample)
                term |= {f"sam_{key}": value for key, value in refined.items()}
            terms.append(term)
        return average_over_masks(terms, [len(sample["masks"]) for sample in samples])

    def _mask_losses(self, logits: Tensor, sample: Sample) -> dict[str, Tensor]:
        targets = resize_ground_truth(sample["masks"], like=logits)
        return mask_losses(logits, targets, self.loss_mask, self.loss_dice)


def chosen_layers(layers: Sequence[int] | None, count: int, name: str) -> list[int]:
    """Return layers 0..count-1, or the named ones; negative ones count from the last.

    Raises:
        ValueError: When one does not exist, or none is named.
    """
    if layers is None:
        return list(range(count))
    if not layers or not all(-count <= layer < count for layer in layers):
        raise ValueError(f"{name}={list(layers)}: the LMM has layers 0..{count - 1}; name at least one of them")
    return sorted({layer % count for layer in layers})


class RequireSAM:
    """Mixin of the `Frozen*SAM` classes, which configs name: SAM must be given."""

    def __init__(self, *args: Any, sam: Any, **kwargs: Any):
        super().__init__(*args, sam=sam, **kwargs)  # type: ignore[call-arg]


def in_batches(run: Callable[[Tensor], Tensor], parts: list[Tensor]) -> list[Tensor]:
    """Run parts [M, ...] of equal shape beyond M in one batch; return the result of each part."""
    shapes: dict[torch.Size, list[int]] = {}
    for index, part in enumerate(parts):
        shapes.setdefault(part.shape[1:], []).append(index)
    results: dict[int, Tensor] = {}
    for together in shapes.values():
        batch = torch.cat([parts[i] for i in together])
        results |= zip(together, run(batch).split([len(parts[i]) for i in together]), strict=True)
    return [results[i] for i in range(len(parts))]
