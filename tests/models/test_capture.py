from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, MistralConfig, MistralModel

from flmm.models.capture import attention_rows, capture

SEQUENCE, ROWS = 40, torch.tensor([30, 33, 39])


def make_decoder(kv_heads=4, sliding_window=None):
    shape = {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
    }
    torch.manual_seed(0)
    if sliding_window:
        return MistralModel(MistralConfig(**shape, sliding_window=sliding_window)).eval()
    return LlamaModel(LlamaConfig(**shape)).eval()


@torch.no_grad()
def eager_oracle(decoder, **inputs):
    """What transformers itself returns in eager mode, with its causal mask."""
    decoder.config._attn_implementation = "eager"
    output = decoder(**inputs, output_attentions=True, output_hidden_states=True)
    decoder.config._attn_implementation = "sdpa"
    return output


@torch.no_grad()
def observe(decoder, keep=lambda weights: weights, **inputs):
    with capture(decoder, [ROWS], lambda weights, _: keep(weights)) as captured:
        output = decoder(**inputs, use_cache=False)
    return captured, output


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("sliding_window", [None, 8])
def test_equals_eager_attention(kv_heads, sliding_window):
    decoder = make_decoder(kv_heads, sliding_window)
    embeds = torch.randn(1, SEQUENCE, 32)
    expected = eager_oracle(decoder, inputs_embeds=embeds)
    captured, output = observe(decoder, inputs_embeds=embeds)
    for layer in range(3):
        torch.testing.assert_close(
            captured.attention[layer][0], expected.attentions[layer][0][:, ROWS], atol=1e-6, rtol=1e-5
        )
        torch.testing.assert_close(
            captured.hidden[layer][0], expected.hidden_states[layer + 1][0, ROWS], atol=1e-5, rtol=1e-4
        )
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=1e-4)


def test_a_window_without_a_mask_as_flash_attention_has_it():
    """Rows of a text, and the newest token beside a cache that forgets nothing."""
    query, key = torch.randn(2, SEQUENCE, 8), torch.randn(1, SEQUENCE, 8)
    past = torch.arange(SEQUENCE)[:, None] - torch.arange(SEQUENCE)
    mask = (past >= 0) & (past < 8)
    expected = attention_rows(query, key, mask, ROWS, 0.3)
    torch.testing.assert_close(attention_rows(query, key, None, ROWS, 0.3, window=8), expected)
    newest = attention_rows(query[:, -1:], key, None, None, 0.3, window=8)
    torch.testing.assert_close(newest[:, 0], expected[:, -1])
    torch.testing.assert_close(
        attention_rows(query, key, None, ROWS, 0.3, window=SEQUENCE), attention_rows(query, key, None, ROWS, 0.3)
    )


def test_a_mask_that_is_no_tensor_is_refused(monkeypatch):
    """Flex attention has a BlockMask."""
    monkeypatch.setattr("flmm.models.capture.ALL_MASK_ATTENTION_FUNCTIONS", {"sdpa": lambda *_, **__: object()})
    with pytest.raises(ValueError, match="attn_implementation='sdpa'"):
        observe(make_decoder(), inputs_embeds=torch.randn(1, SEQUENCE, 32))


def test_threads_take_turns():
    decoder, embeds = make_decoder(), torch.randn(1, SEQUENCE, 32)
    expected, _ = observe(decoder, inputs_embeds=embeds)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: observe(decoder, inputs_embeds=embeds)[0], range(12)))
    assert all(torch.equal(one.attention[2][0], expected.attention[2][0]) for one in found)
    assert decoder.config._attn_implementation == "sdpa"


def test_padding_is_not_seen():
    decoder = make_decoder()
    embeds = torch.randn(1, SEQUENCE, 32)
    mask = torch.ones(1, SEQUENCE, dtype=torch.long)
    mask[0, :5] = 0
    expected = eager_oracle(decoder, inputs_embeds=embeds, attention_mask=mask)
    captured, _ = observe(decoder, inputs_embeds=embeds, attention_mask=mask)
    for layer in range(3):
        assert captured.attention[layer][0][..., :5].abs().max() == 0
        torch.testing.assert_close(
            captured.attention[layer][0], expected.attentions[layer][0][:, ROWS], atol=1e-6, rtol=1e-5
        )


def test_rows_sum_to_one_and_never_see_a_later_token():
    captured, _ = observe(make_decoder(), inputs_embeds=torch.randn(1, SEQUENCE, 32))
    for (weights,) in captured.attention.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(4, len(ROWS)))
        for row, position in enumerate(ROWS):
            assert not weights[:, row, position + 1 :].any()
            assert (weights[:, row, : position + 1] > 0).all()


def test_bfloat16_keeps_the_dtype_and_the_softmax_stays_float32():
    decoder = make_decoder()
    embeds = torch.randn(1, SEQUENCE, 32)
    exact, _ = observe(decoder, inputs_embeds=embeds)
    captured, _ = observe(decoder.bfloat16(), inputs_embeds=embeds.bfloat16())
    assert captured.attention[0][0].dtype == torch.bfloat16
    torch.testing.assert_close(captured.attention[0][0].float(), exact.attention[0][0], atol=5e-3, rtol=0.1)


def test_the_decoder_is_left_as_it_was():
    decoder = make_decoder()
    before = decoder.config._attn_implementation
    observe(decoder, inputs_embeds=torch.randn(1, SEQUENCE, 32))
    with pytest.raises(ZeroDivisionError), capture(decoder, [ROWS], lambda w, _: w):
        raise ZeroDivisionError
    assert decoder.config._attn_implementation == before
    assert not any(m._forward_hooks for m in decoder.modules())


def test_only_what_is_kept_survives():
    captured, _ = observe(make_decoder(), keep=lambda w: w.mean(), inputs_embeds=torch.randn(1, SEQUENCE, 32))
    assert all(value.ndim == 0 for (value,) in captured.attention.values())
    assert all(value.shape == (len(ROWS), 32) for (value,) in captured.hidden.values())


def test_a_decoder_that_bypasses_the_registry_is_refused():
    decoder = make_decoder()
    decoder.layers[1].forward = lambda hidden, **_: hidden
    with pytest.raises(ValueError, match="2 of 3 layers"):
        observe(decoder, inputs_embeds=torch.randn(1, SEQUENCE, 32))
