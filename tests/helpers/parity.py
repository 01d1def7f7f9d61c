"""The parity check that every backbone's test calls."""

import torch
from golden_cases import GoldenCase, relative_error

from flmm.models.frozen_lmm import FrozenLMM

METRICS = ("accuracy", "aiou")
TOLERANCES = {
    "value": 1e-4,
    "metric": 1e-3,  # pixels are counted: one that flips at the threshold is 1e-4 of a small picture
    "gradient": 1e-2,  # as recorded: SAM's mask downscaling amplifies float32 rounding
}


def parity_errors(
    case: GoldenCase, model: FrozenLMM, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Relative error of everything recorded: maps, masks, embeddings, losses, metrics and gradient norms.

    Args:
        case: The recorded case.
        model: Its model, with an untrained head.
        device: Where it runs.
        dtype: Of the LMM; with bfloat16 the head runs under autocast.
    """
    case.load_head(model)
    model.to(device).backbone.to(dtype)
    with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=dtype is torch.bfloat16):
        return _errors(case, model)


def _errors(case: GoldenCase, model: FrozenLMM) -> dict[str, float]:
    samples = case.samples()
    errors = {}
    for i, output in enumerate(model(samples, mode="tensor")):
        recorded = {key.split("/", 1)[1]: t for key, t in case.outputs.items() if key.startswith(f"{i}/")}
        phrase_rows = recorded["mask_ids_expanded"] >= 0
        assert torch.equal(output["mask_ids"].cpu().clamp(min=-1), recorded["mask_ids_expanded"].clamp(min=-1))
        for key in ("mask_attentions", "pred_masks", "sam_pred_masks"):
            errors[f"{i}/{key}"] = relative_error(output[key], recorded[key])
        errors[f"{i}/hidden_states"] = relative_error(output["hidden_states"], recorded["hidden_states"][phrase_rows])
        errors[f"{i}/text_embeds"] = relative_error(torch.cat(output["text_embeds"]), recorded["text_embeds"])
    model.train()
    losses = model(samples, mode="loss")
    for key, value in losses.items():
        errors[f"loss/{key}"] = relative_error(value, case.outputs[f"loss/{key}"])
    sum(value for key, value in losses.items() if "loss" in key).backward()
    return errors | gradient_errors(case, model)


def gradient_errors(case: GoldenCase, model: FrozenLMM) -> dict[str, float]:
    """Relative error of each gradient norm; parameters without gradient must be the recorded ones."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(trainable) == set(case.case["trainable_parameters"])
    none = {name for name, p in trainable.items() if p.grad is None}
    assert none == set(case.outputs_json["grad_none"])
    largest = max(float(v) for k, v in case.outputs.items() if k.startswith("grad_norm/"))
    errors = {}
    for name in trainable.keys() - none:
        expected = float(case.outputs[f"grad_norm/{name}"])
        # norms that are noise beside the largest one are compared on its scale
        scale = max(expected, 1e-3 * largest)
        errors[f"grad/{name}"] = abs(float(trainable[name].grad.double().norm()) - expected) / scale
    return errors


def assert_parity(case: GoldenCase, model: FrozenLMM) -> None:
    """Fails with the worst quantities when one is further off than its tolerance."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for name, error in sorted(parity_errors(case, model).items(), key=lambda item: -item[1]):
        kind = "gradient" if name.startswith("grad/") else "metric" if name.endswith(METRICS) else "value"
        groups.setdefault(kind, []).append((name, error))
    for kind, errors in groups.items():
        print(f"{case.dir.name}: worst of {len(errors)} {kind}s: {errors[0][0]} {errors[0][1]:.1e}")
        assert errors[0][1] < TOLERANCES[kind], errors[:8]
