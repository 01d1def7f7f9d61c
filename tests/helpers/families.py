"""Every LMM family small enough for a test: its real config, over tiny weights that bear the hub's names.

`lay_out` makes a folder that looks like the root of a user's copy: configs, SAM, and repositories such as
`llava-hf/llava-1.5-7b-hf`, which the configs find because a local folder goes before the hub. The weights are those
recorded with the reference, or random ones.
"""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import torch
from golden_cases import GOLDEN
from hf_tiny import FAMILIES as HF_FAMILIES
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from deepseek_vl.models.modeling_vlm import TwoTowerCausalLM
from deepseek_vl.models.original_format import read_config as deepseek_config
from flmm.checkpoint import trainable
from flmm.config import build_model, read_config, sample_settings
from flmm.datasets.phrases import encode_phrases
from flmm.datasets.sample import SampleBuilder

ROOT = Path(__file__).parents[2]
# beginnings of the names that a checkpoint holds
TRAINED = ("mask_head.", "text_proj.", "text_layer_weights", "sam.model.prompt_encoder.", "sam.model.mask_decoder.")
PLAIN, WITH_IMAGE = (GOLDEN / "comp_datasets" / f"tokenizer_{name}" for name in ("plain", "with_image"))
CLIP = "openai/clip-vit-large-patch14-336"
CONVNEXT = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"
TEXT, PHRASES = "a red ball on the green grass", ("a red ball", "green grass")
CONFIG = """
from mmengine.config import read_base

with read_base():
    from .configs.{config} import *

model.mask_head.update(base_channels=8)
model.sam.update(model_name="vit_nano", checkpoint="checkpoints/sam_vit_nano.pth")
{changes}
"""


@dataclass(frozen=True)
class Family:
    """One LMM family.

    Attributes:
        config: Its config below `configs/`, without the `unet_sam_l_refcoco_png` at its end.
        channels: Views x layers x heads of the tiny LMM.
        write: Makes its repositories below a folder.
        views: How many views it has.
        changes: Further lines of the user's config.
    """

    config: str
    channels: int
    write: Callable[[Path], None]
    views: int = 1
    changes: str = ""

    def lay_out(self, root: Path, changes: str = "") -> Path:
        """Writes all that the family needs below `root`; returns the config."""
        for name in ("configs", "checkpoints"):
            (root / name).symlink_to(ROOT / name)
        self.write(root)
        module = f"{self.config}_unet_sam_l_refcoco_png"
        text = CONFIG.format(config=module, changes=f"{self.changes}\n{changes}")
        path = root / f"{module.split('.')[-1]}.py"
        path.write_text(text)
        return path


def recorded(case: str, *folders: tuple[str, str]) -> Callable[[Path], None]:
    """Copies recorded repositories as they are: (folder of the case, name on the hub)."""

    def write(root: Path) -> None:
        for source, name in folders:
            copytree(GOLDEN / case / "backbone" / source, root / name)

    return write


def with_words(case: str, name: str, tokenizer: Path, source: str = "", words: str = "") -> Callable[[Path], None]:
    """Copies a recorded repository and enlarges its vocabulary (in sub-folder `words`) for the words of a tokenizer."""

    def write(root: Path) -> None:
        copytree(GOLDEN / case / "backbone" / source, root / name)
        add_tokenizer(root / name / words, tokenizer)

    return write


def add_tokenizer(folder: Path, source: Path) -> None:
    """Adds a tokenizer to a repository, and random embeddings for its further words."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    more = len(tokenizer) - text["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        for key in [key for key in weights if key.endswith(("embed_tokens.weight", "lm_head.weight"))]:
            old = weights[key].float()
            rows = torch.randn(more, old.shape[1], generator=generator) * old.std()
            weights[key] = torch.cat([old, rows]).to(weights[key].dtype)
        save_file(weights, file, metadata={"format": "pt"})
    text["vocab_size"] += more
    if "image_token_index" in config:
        config["image_token_index"] = tokenizer.convert_tokens_to_ids("<image>")
    (folder / "config.json").write_text(json.dumps(config))


def llava(root: Path) -> None:
    """LLaVA-1.5, whose config takes the image processor from CLIP's repository."""
    with_words("llava15_a", "llava-hf/llava-1.5-7b-hf", WITH_IMAGE)(root)
    copytree(GOLDEN / "llava15_a/backbone", root / CLIP)


def mgm(case: str, name: str, **changes: Any) -> Callable[[Path], None]:
    """MGM and its two towers; `changes` of its config.json make the plain model of the HD one."""

    def write(root: Path) -> None:
        with_words(case, name, PLAIN, source="mgm")(root)
        recorded(case, ("openai-clip-tiny", CLIP), ("openclip-convnext-tiny-golden", CONVNEXT))(root)
        config = root / name / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))

    return write


def deepseek_7b(root: Path) -> None:
    """DeepSeek-VL with two towers, random, in the format of transformers."""
    folder = root / "deepseek-ai/deepseek-vl-7b-chat"
    raw = json.loads((GOLDEN / "deepseek_1b_a/backbone/config.json").read_text())
    low = {**raw["vision_config"]["params"], "mlp_ratio": 4}
    high = {
        "model_name": "sam_tiny",
        "image_size": 512,
        "width": 32,
        "layers": 3,
        "heads": 2,
        "global_attn_indexes": [1, 2],
        "downsample_channels": [24, 32],
        "pixel_mean": [0.48, 0.46, 0.41],
        "pixel_std": [0.27, 0.26, 0.28],
    }
    raw["vision_config"] = {"cls": "HybridVisionTower", "params": {"low_res_cfg": low, "high_res_cfg": high}}
    raw["aligner_config"]["params"]["projector_type"] = "low_high_hybrid_split_mlp_gelu"
    raw["language_config"]["initializer_range"] = 0.2  # else attention is nearly the same everywhere
    torch.manual_seed(0)
    TwoTowerCausalLM(deepseek_config(raw)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(GOLDEN / "deepseek_1b_a/backbone").save_pretrained(folder)
    processor = json.loads((GOLDEN / "deepseek_1b_a/backbone/preprocessor_config.json").read_text())
    processor |= {"image_size": high["image_size"], "do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def hugging_face(family: str, name: str) -> Callable[[Path], None]:
    """A random image-text model of transformers with its processor."""

    def write(root: Path) -> None:
        model, settings = HF_FAMILIES[family].build()
        model.save_pretrained(root / name)
        settings["image_processor"].processor.save_pretrained(root / name)

    return write


def hf_family(key: str, config: str, name: str) -> Family:
    """One of the tiny models of `hf_tiny`, under the name of its config and of its repository."""
    tiny = HF_FAMILIES[key]
    changes = f"model.grid.update(side={tiny.grid.side})" if hasattr(tiny.grid, "side") else ""
    return Family(f"hf.{config}", tiny.views * 2 * 4, hugging_face(key, name), tiny.views, changes)


HD = {"image_grid": 1, "image_global": False, "image_size_aux": 192}
HPT = {"hpt_air": "HyperGAI/HPT", "hpt_air_1_5": "HyperGAI/HPT1_5-Air-Llama-3-8B-Instruct-multimodal"}
FAMILIES = {
    "llava15": Family("llava.frozen_llava_1_5_vicuna_7b", 3 * 4, llava),
    "llava_next": Family(
        "llava_next.frozen_llava_next_mistral_7b",
        2 * 3 * 4,
        with_words("llava_next_a", "llava-hf/llava-v1.6-mistral-7b-hf", WITH_IMAGE),
        views=2,
    ),
    "deepseek_1b": Family(
        "deepseek_vl.frozen_deepseek_vl_1_3b_chat",
        3 * 4,
        recorded("deepseek_1b_a", ("", "deepseek-ai/deepseek-vl-1.3b-chat")),
    ),
    "deepseek_7b": Family("deepseek_vl.frozen_deepseek_vl_7b_chat", 3 * 4, deepseek_7b),
    "mgm_llama": Family("mgm.frozen_mgm_vicuna_7b", 3 * 4, mgm("mgm_hd_a", "YanweiLi/MGM-7B", **HD)),
    "mgm_gemma": Family("mgm.frozen_mgm_gemma_2b", 3 * 4, mgm("mgm_gemma_a", "YanweiLi/MGM-2B")),
    "mgm_hd": Family("mgm.frozen_mgm_vicuna_7b_hd", 2 * 3 * 4, mgm("mgm_hd_a", "YanweiLi/MGM-7B-HD"), views=2),
    "hpt_clip": Family("hpt.frozen_hpt_air", 3 * 4, with_words("hpt_clip_a", HPT["hpt_air"], PLAIN, words="llm")),
    "hpt_siglip": Family(
        "hpt.frozen_hpt_air_1_5", 3 * 4, with_words("hpt_siglip_a", HPT["hpt_air_1_5"], PLAIN, words="llm")
    ),
    "qwen2_5_vl": Family(
        "qwen.frozen_qwen2_5_vl_3b_instruct", 3 * 4, recorded("qwen25vl_a", ("", "Qwen/Qwen2.5-VL-3B-Instruct"))
    ),
}
HF_CONFIGS = {
    "qwen2_vl": ("frozen_qwen2_vl_7b_instruct", "Qwen/Qwen2-VL-7B-Instruct"),
    "qwen3_vl": ("frozen_qwen3_vl_4b_instruct", "Qwen/Qwen3-VL-4B-Instruct"),
    "internvl3": ("frozen_internvl3_8b", "OpenGVLab/InternVL3-8B-hf"),
    "llava_onevision": ("frozen_llava_onevision_qwen2_7b", "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
    "smolvlm": ("frozen_smolvlm_instruct", "HuggingFaceTB/SmolVLM-Instruct"),
    "gemma3": ("frozen_gemma3_4b_it", "google/gemma-3-4b-it"),
    "paligemma": ("frozen_paligemma_3b_mix_448", "google/paligemma-3b-mix-448"),
}
FAMILIES |= {key: hf_family(key, *names) for key, names in HF_CONFIGS.items()}


@dataclass(frozen=True)
class Built:
    """A family's model and how its config reads samples.

    Attributes:
        name: Key of `FAMILIES`.
        family: What is known of it.
        config: The user's config.
        model: Its model, LMM in float32.
        builder: Makes its samples.
    """

    name: str
    family: Family
    config: Any
    model: Any
    builder: SampleBuilder

    def sample(self, image: Image.Image | None = None, text: str = TEXT, phrases: Sequence[str] = PHRASES) -> Any:
        """A sample with ground truth for each phrase: a band of the picture."""
        image = image or picture()
        ids, mask_ids = encode_phrases(self.builder.tokenizer, text, phrases)
        masks = torch.zeros(len(phrases), image.height, image.width, dtype=torch.uint8)
        for index, mask in enumerate(masks):
            mask[index * image.height // len(phrases) : (index + 1) * image.height // len(phrases)] = 1
        return self.builder.build(image, ids, mask_ids, masks)

    def load(self, dtype: torch.dtype) -> Any:
        """The config's model once more, with the LMM in another dtype and the same head."""
        model = build_model(in_dtype(self.config, dtype))
        model.load_state_dict(trainable(self.model), strict=False)
        return model


def build(name: str, root: Path) -> Built:
    """Lays a family out and builds it; the working directory must be `root`."""
    config = read_config(FAMILIES[name].lay_out(root))
    torch.manual_seed(0)
    model = build_model(in_dtype(config, torch.float32))
    return Built(name, FAMILIES[name], config, model, SampleBuilder(**sample_settings(config)))


def in_dtype(config: Any, dtype: torch.dtype) -> Any:
    """The config with every part of its LMM in `dtype`."""
    config = deepcopy(config)
    parts = [config.model] + [config.model[key] for key in config.model if isinstance(config.model[key], dict)]
    for part in parts:
        if "dtype" in part:
            part.dtype = dtype
    return config


def picture(size: tuple[int, int] = (150, 110)) -> Image.Image:
    """A red ball on green."""
    image = Image.new("RGB", size, (90, 120, 60))
    ImageDraw.Draw(image).ellipse((10, 10, max(11, size[0] // 2), max(11, size[1] // 2)), fill=(220, 40, 30))
    return image
