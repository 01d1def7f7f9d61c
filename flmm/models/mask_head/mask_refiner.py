"""SAMWrapper: SAM refines coarse masks, prompted with the mask, its box and the words of the phrase."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from flmm.boxes import masks_to_boxes
from flmm.datasets.images import as_rgb
from flmm.utils import compute_mask_IoU
from segment_anything import sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide

AT_ONCE = 64  # phrases in one pass of SAM's decoder; one takes about 50 MB there


@dataclass(frozen=True)
class Embedding:
    """Hold what SAM's image encoder makes of a picture.

    Attributes:
        features: [1, embed_dim, h, w].
        input_size: (height, width) to which the picture was resized.
        image_size: (H, W) of the picture.
    """

    features: Tensor
    input_size: tuple[int, int]
    image_size: tuple[int, int]


class SAMWrapper(nn.Module):
    """Refine masks by SAM: a frozen image encoder, a trained prompt encoder and mask decoder.

    Args:
        model_name: Key of `segment_anything.sam_model_registry`.
        checkpoint: Official SAM weights; None leaves SAM untrained.
        use_text: Append the phrase's text embeddings to the sparse prompts.
        use_mask: Prompt with the coarse mask.
        use_box: Prompt with the box of the coarse mask.
        multimask_output: Decode three candidates and take the one closest to the coarse mask.
        encoder_dtype: Precision of the frozen image encoder, e.g. 'bfloat16'; by default that of its weights.
        compile_encoder: Compile the image encoder with torch.compile at its first use.
    """

    def __init__(
        self,
        model_name: str,
        checkpoint: str | None,
        use_text: bool = True,
        use_mask: bool = True,
        use_box: bool = True,
        multimask_output: bool = False,
        encoder_dtype: str | None = None,
        compile_encoder: bool = False,
    ):
        super().__init__()
        self.model = sam_model_registry[model_name](checkpoint=checkpoint)
        self.model.image_encoder.requires_grad_(False)
        if encoder_dtype is not None:
            self.model.image_encoder.to(getattr(torch, encoder_dtype))
        if compile_encoder:
            self.model.image_encoder.compile()
        self.use_text, self.use_mask, self.use_box = use_text, use_mask, use_box
        self.multimask_output = multimask_output
        encoder: Any = self.model.image_encoder
        self.image_size: int = encoder.img_size
        self.transform = ResizeLongestSide(self.image_size)

    @property
    def embed_dim(self) -> int:
        """Return the width of the prompts, hence of the text embeddings."""
        return self.model.prompt_encoder.embed_dim

    def train(self, mode: bool = True) -> "SAMWrapper":
        """Set the mode of what is trained; the image encoder stays in eval mode."""
        super().train(mode)
        self.model.image_encoder.eval()
        return self

    def forward(self, image: Image.Image, pred_masks: Tensor, text_embeds: list[Tensor]) -> Tensor:
        """Refine the masks of all phrases of an image.

        Args:
            image: The picture, any mode.
            pred_masks: [M, h, w] coarse logits that cover exactly the picture.
            text_embeds: M tensors [T, embed_dim].

        Returns:
            [M, H, W] logits at the size of the picture.
        """
        return self.refine(self.encode([image]), [pred_masks], [text_embeds])[0]

    @torch.no_grad()
    def encode(self, images: list[Image.Image]) -> list[Embedding]:
        """Run the image encoder, in one pass; an image that is there twice, as one object, is encoded once."""
        distinct = {id(image): image for image in images}
        resized = [self.transform.apply_image(np.array(as_rgb(image))) for image in distinct.values()]
        pixels = [torch.tensor(picture).permute(2, 0, 1).to(self.model.device) for picture in resized]
        features = self.model.image_encoder(torch.stack([self.model.preprocess(picture) for picture in pixels]))
        features = features.to(self.model.mask_decoder.iou_token.weight.dtype)
        embeddings = {
            key: Embedding(features[i : i + 1], resized[i].shape[:2], (image.height, image.width))
            for i, (key, image) in enumerate(distinct.items())
        }
        return [embeddings[id(image)] for image in images]

    def refine(
        self, images: list[Embedding], pred_masks: list[Tensor], text_embeds: list[list[Tensor]]
    ) -> list[Tensor]:
        """Refine the masks of several images; the decoder runs once for each length of phrase.

        Args:
            images: What `encode` made of each image.
            pred_masks: Of each image [M, h, w] coarse logits.
            text_embeds: Of each image M tensors [T, embed_dim].

        Returns:
            Of each image [M, H, W] logits.
        """
        coarse = [coarse_boxes(masks, image.image_size) for masks, image in zip(pred_masks, images, strict=True)]
        prompts: dict[str, list[Tensor]] = {}
        if self.use_box:
            resize = self.transform.apply_boxes_torch
            prompts["boxes"] = [resize(boxes, im.image_size) for (boxes, _), im in zip(coarse, images, strict=True)]
        if self.use_mask:
            prompts["masks"] = [
                self._mask_prompts(masks, image.input_size) for masks, image in zip(pred_masks, images, strict=True)
            ]
        counts = [len(masks) for masks in pred_masks]
        embeds = [embed for phrases in text_embeds for embed in phrases]
        features, image_of = together(images)
        owner = torch.tensor(image_of).repeat_interleave(torch.tensor(counts))
        decoded = self._decode(features, owner, {key: torch.cat(parts) for key, parts in prompts.items()}, embeds)
        return [
            self._closest(self.model.postprocess_masks(logits, image.input_size, image.image_size), binary)
            for logits, image, (_, binary) in zip(decoded.split(counts), images, coarse, strict=True)
        ]

    def _decode(self, features: Tensor, owner: Tensor, prompts: dict[str, Tensor], text_embeds: list[Tensor]) -> Tensor:
        """Decode low-resolution logits [P, K, h, w] of P phrases; `owner` [P] says whose features each one reads."""
        groups = group_by_length(text_embeds) if self.use_text else [list(range(len(owner)))]
        groups = [group[i : i + AT_ONCE] for group in groups for i in range(0, len(group), AT_ONCE)]
        decoded = [
            self._decode_group(
                features if len(features) == 1 else features[owner[phrases]],
                len(phrases),
                **{key: prompt[phrases] for key, prompt in prompts.items()},
                text_embeds=torch.stack([text_embeds[p] for p in phrases]) if self.use_text else None,
            )
            for phrases in groups
        ]
        order = torch.tensor(sum(groups, [])).argsort()
        return torch.cat(decoded)[order]

    def _decode_group(
        self,
        features: Tensor,
        num_phrases: int,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        text_embeds: Tensor | None = None,
    ) -> Tensor:
        """Decode low-resolution logits [num_phrases, K, h, w] of phrases with equally many prompts."""
        sparse, dense = self.model.prompt_encoder(points=None, boxes=boxes, masks=masks, text_embeds=text_embeds)
        logits, _ = self.model.mask_decoder(
            image_embeddings=features,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse.expand(num_phrases, -1, -1),  # without any prompt there is just one
            dense_prompt_embeddings=dense.expand(num_phrases, -1, -1, -1),
            multimask_output=self.multimask_output,
        )
        return logits

    def _mask_prompts(self, pred_masks: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Put coarse logits into SAM's padded frame: [M, 1, *mask_input_size]."""
        masks = F.interpolate(pred_masks[:, None].float(), size=input_size, mode="bilinear")
        # one value for all phrases, as in the reference: outside of the picture is at least as negative as inside
        outside = min(-1.0, float(pred_masks.detach().min()))
        padding = (0, self.image_size - input_size[1], 0, self.image_size - input_size[0])
        masks = F.pad(masks, padding, value=outside)
        masks = F.interpolate(masks, size=self.model.prompt_encoder.mask_input_size, mode="bilinear")
        return masks.to(pred_masks.dtype)

    def _closest(self, candidates: Tensor, binary: Tensor) -> Tensor:
        """Choose of [M, K, H, W] candidates the one closest to each coarse mask [M, H, W]: [M, H, W]."""
        if not self.multimask_output:
            return candidates[:, 0]
        found = (candidates.detach() > 0).flatten(2).float()
        ious = compute_mask_IoU(found, binary[:, None].flatten(2).float().expand_as(found))[2]  # [M, K]
        return candidates[torch.arange(len(candidates)), ious.argmax(1)]


def together(images: list[Embedding]) -> tuple[Tensor, list[int]]:
    """Stack features [N, embed_dim, h, w] of the N distinct images; say for each image which are its features."""
    distinct = {id(image.features): image.features for image in images}
    return torch.cat(list(distinct.values())), [list(distinct).index(id(image.features)) for image in images]


def group_by_length(text_embeds: list[Tensor]) -> list[list[int]]:
    """Group phrases that have equally many tokens, so that SAM decodes each group at once."""
    groups: dict[int, list[int]] = {}
    for phrase, embeds in enumerate(text_embeds):
        groups.setdefault(len(embeds), []).append(phrase)
    return list(groups.values())


@torch.no_grad()
def coarse_boxes(pred_masks: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return boxes of coarse masks in image pixels; the whole image where a mask is empty.

    Args:
        pred_masks: [M, h, w] logits.
        size: (H, W) of the image.

    Returns:
        boxes [M, 4] as x0, y0, x1 + 1, y1 + 1, and the binary masks [M, H, W] that they enclose.
    """
    probabilities = F.interpolate(pred_masks.detach().float().sigmoid()[None], size=size, mode="bilinear")[0]
    binary = probabilities > 0.5
    boxes, whole = masks_to_boxes(binary), torch.tensor([0.0, 0.0, size[1], size[0]], device=binary.device)
    return torch.where(binary.flatten(1).any(1, keepdim=True), boxes, whole), binary
