"""The config of the model without weights; reads samples as LLaVA-1.5 does."""

from fake_grounder import FakeGrounder
from transformers import AutoTokenizer

from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.png import PNGDataset, concat_datasets

model = {"type": FakeGrounder, "pretrained": "not/there.pth"}
tokenizer = {
    "type": AutoTokenizer.from_pretrained,
    "pretrained_model_name_or_path": "tests/golden/comp_datasets/tokenizer_with_image",
}
image_processor = {
    "type": CustomLlavaImageProcessor,
    "size": {"shortest_edge": 84},
    "crop_size": {"height": 84, "width": 84},
}
png = {
    "type": PNGDataset,
    "json_file": "unused",
    "tokenizer": tokenizer,
    "image_processor": image_processor,
    "prompt": "<image>\nPlease give me a description of the image.",
    "prompt_template": {"INSTRUCTION": "USER: {input} ASSISTANT:"},
}
train_dataloader = {"dataset": {"type": concat_datasets, "datasets_list": [png]}}
