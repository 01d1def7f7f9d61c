"""Grounding with a frozen LMM, step by step as in the paper's figure 2; the same code for every LMM."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from xtuner.registry import BUILDER

from flmm.models.attention_maps import finest_size, fold_rows, merge_rows, stack_maps
from flmm.models.backbone import Backbone, Reading, Tokens
from flmm.models.capture import capture
from flmm.models.frame import crop_to_picture
from flmm.models.losses import average_over_masks, mask_losses, resize_ground_truth
from flmm.models.text_embedding import split_by_phrase, weigh_layers

Sample = dict[str, Any]
Merge = Literal["mean", "max"]


def build(part: Any) -> Any:
    """Builds a config dict with a `type`; a part that is built already passes through."""
    return BUILDER.build(part) if isinstance(part, dict) else part


class FrozenLMM(BaseModel):
    """A frozen LMM, a U-Net over its attention maps and, optionally, SAM.

    Args:
        backbone: The adapter of the LMM.
        mask_head: UNetHead or its config.
        loss_mask: Pixel loss or its config; only needed for training.
        loss_dice: Dice loss or its config; only needed for training.
        merge: How the attention rows of a phrase become one.
        sam: SAMWrapper or its config; None stops at the coarse masks.
        pretrained: Checkpoint of the trained parameters.
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
    ):
        super().__init__()
        if merge not in ("mean", "max"):
            raise ValueError(f"merge={merge!r}, but rows of a phrase can be merged by 'mean' or 'max' only")
        self.backbone = backbone
        self.mask_head = build(mask_head)
        self.merge = merge
        self.sam = build(sam)
        if self.sam is not None:
            self.text_layer_weights = nn.Parameter(torch.ones(backbone.num_layers))
            self.text_proj = nn.Linear(backbone.hidden_size, self.sam.embed_dim)
        self.loss_mask = build(loss_mask)
        self.loss_dice = build(loss_dice)
        if pretrained is not None:
            from flmm.checkpoint import load_head

            load_head(self, pretrained)

    def forward(
        self,
        data: Sample | list[Sample],
        data_samples: Any = None,
        mode: Literal["loss", "predict", "tensor"] = "loss",
    ) -> Any:
        """The entry that MMEngine's loops call.

        Args:
            data: One sample or a list of them (docs/data.md has the keys).
            data_samples: Unused; part of MMEngine's interface.
            mode: 'loss' for the training terms, 'predict' for refined masks, 'tensor' for all of `ground`.

        Returns:
            'loss': dict of scalars. 'predict' and 'tensor': one result for one sample, a list for a list.
        """
        if mode == "loss":
            return self.loss([data] if isinstance(data, dict) else data)
        run: dict[str, Callable] = {"predict": self.predict, "tensor": self.ground}
        if mode not in run:
            raise ValueError(f"mode={mode!r} is not one of 'loss', 'predict', 'tensor'")
        with torch.no_grad():
            return run[mode](data) if isinstance(data, dict) else [run[mode](sample) for sample in data]

    def ground(self, sample: Sample) -> dict[str, Any]:
        """Grounds the phrases of one sample.

        Returns:
            `pred_masks` [M, h', w'] coarse logits over the picture, `mask_attentions` [M, C, h, w], `mask_ids`
            [S] and, with SAM, `sam_pred_masks` [M, H, W] logits at the size of the picture, `hidden_states`
            [T_total, D] and `text_embeds` M x [T, embed_dim].

        Raises:
            ValueError: When a phrase has no token.
        """
        tokens = self.backbone.tokens(sample)
        reading = self.read(tokens)
        maps = stack_maps(reading.attention, self.backbone.channel_order)
        pred_masks = self.mask_head(maps)[:, 0]
        if self.backbone.views_include_padding:
            pred_masks = crop_to_picture(pred_masks, sample["meta_data"])
        output = {"pred_masks": pred_masks, "mask_attentions": maps, "mask_ids": tokens.mask_ids}
        if self.sam is not None:
            hidden = weigh_layers(reading.hidden, self.text_layer_weights)
            embeds = split_by_phrase(
                self.text_proj(hidden.to(self.text_proj.weight.dtype)), reading.phrase_ids, len(pred_masks)
            )
            output |= {
                "sam_pred_masks": self.sam(sample["image"], pred_masks, embeds),
                "hidden_states": hidden,
                "text_embeds": embeds,
            }
        return output

    def predict(self, sample: Sample) -> Tensor:
        """Logits [M, H, W] of the refined masks at image size; without SAM the coarse ones [M, h', w']."""
        output = self.ground(sample)
        return output["pred_masks"] if self.sam is None else output["sam_pred_masks"]

    def loss(self, samples: list[Sample]) -> dict[str, Tensor]:
        """Training terms of coarse (`*`) and refined (`sam_*`) masks, averaged over all masks."""
        terms = []
        for sample in samples:
            output = self.ground(sample)
            term = self._mask_losses(output["pred_masks"], sample)
            if self.sam is not None:
                refined = self._mask_losses(output["sam_pred_masks"], sample)
                term |= {f"sam_{key}": value for key, value in refined.items()}
            terms.append(term)
        return average_over_masks(terms, [len(sample["masks"]) for sample in samples])

    @torch.no_grad()
    def read(self, tokens: Tokens) -> Reading:
        """Runs the LMM and keeps what its phrase tokens attended to and became."""
        rows = (tokens.mask_ids >= 0).nonzero().flatten()
        phrase_ids = tokens.mask_ids[rows]
        num_phrases = check_phrases(phrase_ids)
        size = finest_size(tokens.views) if self.backbone.resize_before_merge else None

        def keep(weights: Tensor) -> list[Tensor]:  # [A, T, S] -> V x [A, M, h, w]
            views = fold_rows(weights, tokens.views, resize_to=size)
            return [merge_rows(maps, phrase_ids, num_phrases, self.merge) for maps in views]

        decoder = self.backbone.decoder
        with capture(decoder, rows, keep) as captured:
            decoder(**tokens.inputs, use_cache=False)
        layers = range(self.backbone.num_layers)
        return Reading(
            attention=[torch.stack(view) for view in zip(*(captured.attention[i] for i in layers), strict=True)],
            hidden=torch.stack([captured.hidden[i] for i in layers]),
            phrase_ids=phrase_ids,
        )

    def _mask_losses(self, logits: Tensor, sample: Sample) -> dict[str, Tensor]:
        targets = resize_ground_truth(sample["masks"], like=logits)
        return mask_losses(logits, targets, self.loss_mask, self.loss_dice)


def check_phrases(phrase_ids: Tensor) -> int:
    """Number of phrases M, after checking that each of 0..M-1 has a token.

    Raises:
        ValueError: When there is no phrase, or one of them has no token.
    """
    found = set(phrase_ids.tolist())
    missing = sorted(set(range(max(found, default=-1) + 1)) - found)
    if not found or missing:
        what = f"phrases {missing} have no token" if found else "no token belongs to a phrase"
        raise ValueError(f"{what}: mask_ids must name every phrase 0..M-1 at least once (was the text truncated?)")
    return len(found)
