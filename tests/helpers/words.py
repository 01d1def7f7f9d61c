"""A tokenizer of whole words, for tests that start from a text."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def word_tokenizer(*words: str, **special: int) -> PreTrainedTokenizerFast:
    """Words get the ids 1, 2, ...; special tokens (written without their angle brackets) the ids given."""
    names = {f"<{name}>": index for name, index in special.items()}
    vocabulary = {"<unk>": 0, **{word: 1 + i for i, word in enumerate(words)}, **names}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=list(names))
