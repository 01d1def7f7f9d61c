"""What an answer's tokens stand for, where a letter takes several of them."""

import torch

from flmm.chat.reply import decode, phrase_of_tokens


class Bytes:
    """A tokenizer whose tokens are bytes; those of a letter that is not whole yet are shown one by one."""

    def decode(self, ids, skip_special_tokens=True):
        whole = bytes(ids).decode(errors="ignore")
        return whole + "\N{REPLACEMENT CHARACTER}" * (len(ids) - len(whole.encode()))


def test_bytes_of_a_letter_do_not_reach_into_what_follows():
    ids = torch.tensor(list("🐶a 犬猫".encode()))
    text, spans = decode(Bytes(), ids)
    assert text == "🐶a 犬猫"
    assert spans == [(0, 1)] * 4 + [(1, 2), (2, 3)] + [(3, 4)] * 3 + [(4, 5)] * 3
    assert phrase_of_tokens(spans, [(1, 4), (4, 5)]).tolist() == [-1] * 4 + [0] * 5 + [1] * 3
