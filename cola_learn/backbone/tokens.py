"""Token ids of texts, with the special tokens that the model's own tokenizer writes before a prompt: decided here only.

Scoring, verification, generation, chat and a controller's features all encode through a ``PromptEncoder``.
"""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

from cola_learn.backbone.dtypes import Bos
from cola_learn.errors import UserError, first_line


class PromptEncoder:
    """Encodes prompts, and prompts with what follows them.

    Special tokens are written once: a prompt that already begins with them, as chat templates write them, gets no
    second ones. An end-of-text token that a tokenizer writes behind every text is left out: a prompt goes on.

    Args:
        tokenizer: of the model.
        bos: ``auto`` writes what the tokenizer writes before a text, ``yes`` its beginning-of-text token in any case,
            ``no`` neither, not even where a chat template does.
        vocabulary: how many tokens the model knows.

    Attributes:
        tokenizer: the tokenizer.
        special_tokens: what is written before a prompt, as text; "" is nothing. Manifests and controllers record it.

    Raises:
        UserError: for ``yes`` where the tokenizer has no beginning-of-text token.
    """

    def __init__(self, tokenizer: Any, bos: Bos = "auto", vocabulary: int = sys.maxsize) -> None:
        self.tokenizer = tokenizer
        self._vocabulary = vocabulary
        own = _written_before(tokenizer)
        first = tokenizer.bos_token_id
        if bos == "yes" and first is None:
            raise UserError("bos is yes, and the model's tokenizer has no beginning-of-text token; use auto or no")
        if bos == "yes" and first not in own:
            own = [first]
        self._before = [] if bos == "no" else own
        self._unwanted = own if bos == "no" else []  # which a chat template may have written
        self.special_tokens = "".join(map(str, tokenizer.convert_ids_to_tokens(own))) if self._before else ""

    @classmethod
    def recorded(
        cls, tokenizer: Any, special_tokens: str, source: str, vocabulary: int = sys.maxsize
    ) -> "PromptEncoder":
        """The encoder that writes the special tokens which a manifest or controller records.

        Args:
            tokenizer: of the model.
            special_tokens: as recorded; "" is none.
            source: what records them, for the message.
            vocabulary: how many tokens the model knows.

        Raises:
            UserError: if no setting of ``bos`` has this tokenizer write them.
        """
        for bos in get_args(Bos):
            if bos == "yes" and tokenizer.bos_token_id is None:
                continue
            encoder = cls(tokenizer, bos, vocabulary)
            if encoder.special_tokens == special_tokens:
                return encoder
        raise UserError(
            f"{source} was made with {special_tokens!r} before every prompt, which this tokenizer does not write; "
            "use the model and tokenizer that it was made with"
        )

    def prompt(self, text: str) -> list[int]:
        """Token ids ``[T]`` of a text that the model goes on with.

        Raises:
            UserError: if it is no Unicode text, or the tokenizer writes tokens that the model does not know.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"character {error.start} of a text is half of a surrogate pair: {text[:40]!r}") from None
        tokens = list(self.tokenizer.encode(text, add_special_tokens=False))
        if max(tokens, default=0) >= self._vocabulary:
            raise UserError(
                f"the tokenizer writes token {max(tokens)}, and the model knows {self._vocabulary}: they do not belong "
                "together"
            )
        if self._unwanted and tokens[: len(self._unwanted)] == self._unwanted:
            return tokens[len(self._unwanted) :]
        return tokens if tokens[: len(self._before)] == self._before else [*self._before, *tokens]

    def pair(self, context: str, continuation: str) -> tuple[list[int], int]:
        """Token ids of a context with its continuation, and how many of them are the context's.

        They are encoded as one text and split where the context ends without the white space behind it, as
        lm-evaluation-harness's Hugging Face model does. An empty context is the beginning-of-text token (or, without
        one, the end-of-text token): the first token of the continuation needs something before it.
        """
        tokens = self.prompt(context + continuation)
        stripped = context.rstrip()
        start = len(self.prompt(stripped)) if stripped else len(self._before)
        if start == 0:
            first = self.tokenizer.bos_token_id
            tokens, start = [self.tokenizer.eos_token_id if first is None else first, *tokens], 1
        return tokens, start

    def cut(self, tokens: Sequence[int], excess: int) -> list[int]:
        """The tokens of a prompt without the first ``excess`` ones behind its special tokens."""
        kept = len(self._before) if list(tokens[: len(self._before)]) == self._before else 0
        return [*tokens[:kept], *tokens[kept + max(0, excess) :]]


def chat_text(
    tokenizer: Any, turns: Sequence[Mapping[str, str]], options: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """A conversation in a tokenizer's chat template, up to where the answer begins.

    Args:
        tokenizer: that has one.
        turns: with ``role`` and ``content``.
        options: of the template, such as ``enable_thinking``.

    Raises:
        UserError: if the template refuses them or fails.
    """
    try:
        return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True, **options))
    except Exception as error:  # whatever a template raises, which is code that came with a model
        roles = ", ".join(dict.fromkeys(str(turn.get("role")) for turn in turns))
        raise UserError(
            f"the model's chat template does not take turns of {roles} ({type(error).__name__}: {first_line(error)}); "
            "leave out the role that it does not know, or put questions as plain text (chat: false)"
        ) from None


def _written_before(tokenizer: Any) -> list[int]:
    """The special tokens that a tokenizer writes before a text."""
    plain, whole = list(tokenizer.encode("a", add_special_tokens=False)), list(tokenizer.encode("a"))
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start]
    return []
