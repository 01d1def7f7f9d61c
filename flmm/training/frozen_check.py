"""Is the LMM's speech untouched by training? Its answers before and after a run, compared bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.hooks import Hook
from PIL import Image
from torch import Tensor, nn
from transformers import LogitsProcessorList

from flmm.checkpoint import load_head, trainable
from flmm.datasets.sample import SampleBuilder
from flmm.training.fingerprint import digest


@dataclass(frozen=True)
class Said:
    """An answer of the LMM.

    Attributes:
        token_ids: [T].
        logits: [T, vocabulary] in the LMM's dtype, from which each token was chosen.
    """

    token_ids: Tensor
    logits: Tensor


class _Recorder:
    """Keep the logits of each step of transformers' `generate`, and pass them on as they are."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores[0].detach().cpu().clone())
        return scores


Question = tuple[Image.Image, str]
Settings = Mapping[str, Any]


@torch.no_grad()
def answers(model: Any, settings: Settings, questions: Sequence[Question], max_new_tokens: int) -> list[Said]:
    """What the LMM says to questions about pictures, greedily; the head plays no part in it.

    Args:
        model: A FrozenLMM; left in the mode that it is in.
        settings: How it reads samples (`config.sample_settings`).
        questions: Pictures, each with what is asked about it; an empty question is the prompt of the config.
        max_new_tokens: Longest answer.
    """
    training = model.training
    model.eval()
    built = SampleBuilder(**settings)
    settings = {**settings, "tokenizer": built.tokenizer, "image_processor": built.image_processor}
    found = []
    for picture, question in questions:
        prompt = {"prompt": built.format.picture + question} if question else {}
        sample = SampleBuilder(**{**settings, **prompt}).build(picture, [], [])
        tokens, recorder = model.backbone.prompt(sample), _Recorder()
        options = {"max_new_tokens": max_new_tokens, "do_sample": False}
        ids = model.backbone.generate(**tokens.inputs, **options, logits_processor=LogitsProcessorList([recorder]))[0]
        found.append(Said(ids.cpu(), torch.stack(recorder.steps)))
    model.train(training)
    return found


def lmm_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights and buffers of the LMM."""
    yield from model.backbone.named_parameters()
    yield from model.backbone.named_buffers()


@dataclass(frozen=True)
class Comparison:
    """What a run left as it was.

    Attributes:
        answers: Number of answers.
        tokens: Number of their tokens.
        same_ids: Answers whose ids are equal.
        same_logits: Answers whose logits are equal in every bit.
        same_weights: Whether the LMM's weights are equal in every bit.
        trained: Number of the head's tensors that changed.
    """

    answers: int
    tokens: int
    same_ids: int
    same_logits: int
    same_weights: bool
    trained: int

    @property
    def is_frozen(self) -> bool:
        """Tell whether nothing of the LMM changed although the head did."""
        return self.same_ids == self.same_logits == self.answers and self.same_weights and self.trained > 0


@dataclass(frozen=True)
class _State:
    said: list[Said]
    weights: str
    head: dict[str, Tensor]


def _state(model: Any, settings: Settings, questions: Sequence[Question], max_new_tokens: int) -> _State:
    head = {name: value.detach().cpu().clone() for name, value in trainable(model).items()}
    return _State(answers(model, settings, questions, max_new_tokens), digest(dict(lmm_tensors(model))), head)


def compare(before: _State, after: _State) -> Comparison:
    """What is equal in two states of a model."""
    pairs = list(zip(before.said, after.said, strict=True))
    return Comparison(
        answers=len(pairs),
        tokens=sum(len(one.token_ids) for one, _ in pairs),
        same_ids=sum(torch.equal(one.token_ids, other.token_ids) for one, other in pairs),
        same_logits=sum(torch.equal(one.logits, other.logits) for one, other in pairs),
        same_weights=before.weights == after.weights,
        trained=sum(not torch.equal(value, after.head[name]) for name, value in before.head.items()),
    )


def check_run(
    config: Any, settings: Settings, questions: Sequence[Question], steps: int, max_new_tokens: int = 32
) -> Comparison:
    """Train for some steps, as the config says, and compare the LMM before and after.

    Args:
        config: Config of a training; its data must be there.
        settings: How it reads samples (`config.sample_settings`).
        questions: See `answers`.
        steps: Iterations of training.
        max_new_tokens: Longest answer.
    """
    from flmm.runner import CustomRunner

    def look(runner: Any) -> _State:
        return _state(_bare(runner.model), settings, questions, max_new_tokens)

    first = _AtTheStart(look)
    with TemporaryDirectory() as folder:
        config.work_dir = folder
        config.train_cfg.update(max_epochs=None, max_iters=steps)
        config.param_scheduler = []  # the schedule's first steps would hardly move the head
        config.visualizer = None  # its threads would write into the folder after it is gone
        config.train_dataloader.num_workers = 0
        runner = CustomRunner.from_cfg(config)
        runner.register_hook(first)
        try:
            runner.train()
            return compare(first.states[0], look(runner))
        finally:
            _close_files(runner.logger)


def _close_files(logger: logging.Logger) -> None:
    """Take away the files of a logger, which outlives their folder: configuring logging again would reopen them."""
    for handler in [one for one in logger.handlers if isinstance(one, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()


class _AtTheStart(Hook):
    """Look at a run when its head has its first weights."""

    def __init__(self, look: Callable[[Any], _State]) -> None:
        self.look = look
        self.states: list[_State] = []

    def before_train(self, runner: Any) -> None:
        """Called by MMEngine."""
        self.states.append(self.look(runner))


def check_head(
    model: Any, checkpoint: str | Path, settings: Settings, questions: Sequence[Question], max_new_tokens: int = 32
) -> Comparison:
    """Compare the LMM before and after the head of a finished run is loaded."""
    before = _state(model, settings, questions, max_new_tokens)
    load_head(model, checkpoint)
    return compare(before, _state(model, settings, questions, max_new_tokens))


def _bare(model: nn.Module) -> Any:
    return getattr(model, "module", model)
