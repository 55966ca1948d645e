"""How much runs at once: as much as fits into memory."""

from collections.abc import Callable
from typing import TypeVar

import torch

from cola_learn.backbone.trie import ActivationTrie
from cola_learn.console import console
from cola_learn.errors import UserError

_LEAST = 64  # tokens: memory that does not hold so few does not hold the model
Result = TypeVar("Result")


class Room:
    """The size of calls, halved whenever memory runs out, and with it what is kept between calls.

    Args:
        tokens: most tokens in a call, to begin with.
        trie: what is kept.
    """

    def __init__(self, tokens: int, trie: ActivationTrie) -> None:
        self.tokens = tokens
        self._trie = trie

    def fit(self, call: Callable[[int], Result]) -> Result:
        """What ``call(tokens)`` returns. Where it runs out of memory it is called again with half as many tokens, so it
        must have changed nothing by then.

        Raises:
            UserError: if that does not help.
        """
        while True:
            try:
                return call(self.tokens)
            except torch.OutOfMemoryError as error:
                if self.tokens < 2 * _LEAST:
                    reason = str(error).split(". ")[0]
                    raise UserError(
                        f"out of memory with {self.tokens} tokens a call ({reason}); give --device split, a smaller "
                        "--dtype or another device"
                    ) from None
            # Outside of the handler, where nothing holds the tensors of the call that failed.
            self.tokens //= 2
            self._trie.shrink(self._trie.budget_bytes // 2)
            torch.cuda.empty_cache()
            console.print(f"out of memory: at most {self.tokens} tokens a call and half the prefix cache from here on")
