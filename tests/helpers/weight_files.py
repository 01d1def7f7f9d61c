"""Writes weights in every layout that repositories of the hub have."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def write_weights(weights: dict[str, Tensor], folder: Path, name: str = "model.safetensors", shards: int = 1) -> None:
    """Writes tensors to `folder` as file `name`, whole or in shards with an index.

    Transformers wrote `pytorch_model.bin` until version 4; version 5 still reads it.
    """
    save = torch.save if name.endswith(".bin") else save_file
    weights = {key: value.contiguous() for key, value in weights.items()}
    meta = {} if name.endswith(".bin") else {"metadata": {"format": "pt"}}
    if shards == 1:
        save(weights, folder / name, **meta)
        return
    stem, suffix = name.split(".")
    keys = sorted(weights)
    parts = {f"{stem}-{i + 1:05}-of-{shards:05}.{suffix}": keys[i::shards] for i in range(shards)}
    for shard, part in parts.items():
        save({key: weights[key] for key in part}, folder / shard, **meta)
    weight_map = {key: shard for shard, part in parts.items() for key in part}
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
