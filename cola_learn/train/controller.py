"""The controller: a small transformer decoder that reads a prompt's embedding and writes a chain.

It writes the chain's edits one after the other, each conditioned on the prompt and on the edits before it,
and ends with a stop token; a mask admits only sequences that are legal chains of the search space. Beside the
probability of a chain it predicts the chain's value: what it gains over the base chain. A controller with a menu
chooses among the chains of the menu, by either.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cola_learn.chains import Chain
from cola_learn.errors import UserError, first_line
from cola_learn.files import as_value, read_json, sha256, writable_folder, write_bytes, write_json
from cola_learn.train.batches import join_sequences, mean_and_last_token, mean_token, pad_features
from cola_learn.train.choice import ChoiceRule
from cola_learn.train.components import Components
from cola_learn.train.controller_config import ControllerConfig
from cola_learn.train.hub import fetch_controller
from cola_learn.train.vocabulary import STOP, EditVocabulary

FORMAT = 5
_WEIGHTS = "model.safetensors"
_PROMPTS_AT_ONCE = 64
_MOST_PROBABLE = ChoiceRule()


class Controller(nn.Module):
    """Reads prompt features ``[B, T, F, H]`` and writes chains.

    Attributes:
        config: its shape, its inputs, and what it was trained for.
        rule: by what it chooses among the chains of its menu.

    Shapes: B prompts, T tokens, F feature layers, H the backbone's hidden size, L edit tokens with the begin
    mark, V the vocabulary of edits.
    """

    def __init__(self, config: ControllerConfig, rule: ChoiceRule = _MOST_PROBABLE) -> None:
        super().__init__()
        if rule.decides == "gain" and not config.menu:
            raise ValueError("predicted gains decide, but there is no menu")
        if len(rule.shifts) not in (0, len(config.menu)):
            raise ValueError(f"{len(rule.shifts)} shifts for a menu of {len(config.menu)} chains")
        self.config = config
        self.rule = rule
        self.vocabulary = EditVocabulary(config.num_layers, config.space)
        width, features = config.width, len(config.feature_layers)
        self.scale: nn.Module
        if config.pooling == "components":
            self.scale = Components(2 * features * config.hidden_size, config.components)
            self.read = nn.Linear(config.components, width)
        else:
            self.scale = nn.ModuleList([nn.LayerNorm(config.hidden_size) for _ in config.feature_layers])
            self.read = nn.Linear(features * config.hidden_size, width)
        self.priced = nn.Linear(1, width, bias=False)
        nn.init.zeros_(self.priced.weight)  # without training prices have no effect
        sizes = (3, config.num_layers, config.space.max_block + 1, config.space.max_extra + 2)
        self.factors = nn.ModuleList([nn.Embedding(size, width) for size in sizes])
        self.begin = nn.Parameter(torch.zeros(width))
        self.places = nn.Embedding(config.num_layers + 1, width)
        block = nn.TransformerDecoderLayer(
            width, config.heads, 4 * width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(block, config.blocks, nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(len(self.vocabulary)))
        self.value = nn.Linear(width, 2)
        self.suits = nn.Linear(width, width, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.5 * width**-0.5)
        self.menu = tuple(Chain.parse(text, config.num_layers) for text in config.menu)
        self._menu_tokens, self._menu_lengths = join_sequences([self.vocabulary.encode(chain) for chain in self.menu])

    def fit_components(self, prompts: Sequence[Tensor]) -> None:
        """Where components are read, find them in training prompts ``[T, F, H]``; to be done before training."""
        if isinstance(self.scale, Components):
            self.scale.fit(torch.cat([mean_and_last_token(*pad_features([prompt])) for prompt in prompts]))

    def encode(self, features: Tensor, padding: Tensor, prices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the decoder reads of prompts.

        Args:
            features: ``[B, T, F, H]``.
            padding: True where a prompt is padding, ``[B, T]``.
            prices: of depth, ``[B]``; default the rule's.

        Returns:
            Memory ``[B, M, width]`` and its padding ``[B, M]``; M is T, or 1 where components are read.
        """
        features = features.to(self.read.weight.dtype)
        if isinstance(self.scale, Components):
            scaled, padding = self.scale(mean_and_last_token(features, padding))[:, None], padding[:, :1]
        else:
            norms = enumerate(self.scale.children())
            scaled = torch.cat([norm(features[:, :, index]) for index, norm in norms], dim=-1)
        if prices is None:
            prices = scaled.new_full((len(scaled),), self.rule.price)
        memory: Tensor = self.read(scaled) + self.priced(prices[:, None].to(scaled.dtype))[:, None]
        return memory, padding

    def decode(self, memory: Tensor, padding: Tensor, tokens: Tensor) -> Tensor:
        """States ``[B, C, L, width]`` after every prefix of edits; arguments as for ``forward``.

        The chains of a prompt lie side by side in one sequence, each seeing itself only: the prompt is read once.
        """
        size, chains, length = tokens.shape
        table = self._edit_embeddings()
        begin = self.begin.expand(size, chains, 1, -1)
        inputs = torch.cat([begin, table[tokens[:, :, 1:]]], dim=2) + self.places.weight[:length]
        hidden = _other_chains_and_later(chains, length).to(inputs)
        unread = padding if memory.shape[1] > 1 else None  # one token, of components, is never padding
        states: Tensor = self.decoder(
            inputs.flatten(1, 2), memory, hidden, memory_key_padding_mask=unread, tgt_is_causal=False
        )
        return states.view(size, chains, length, -1)

    def forward(self, memory: Tensor, padding: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities of the next token after every prefix.

        Args:
            memory: ``[B, M, width]``.
            padding: True where memory is padding, ``[B, M]``.
            tokens: edits so far of C chains a prompt, ``[B, C, L]``; the first is the begin mark, any value.

        Returns:
            ``[B, C, L, V]``, minus infinity for illegal tokens.
        """
        return self.next_tokens(self.decode(memory, padding, tokens), tokens)

    def next_tokens(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities ``[B, C, L, V]`` of the next token, from ``decode``'s states."""
        begun = torch.cat([torch.full_like(tokens[:, :, :1], STOP), tokens[:, :, 1:]], dim=2)
        legal = self.vocabulary.legal_everywhere(begun.flatten(0, 1)).view(*tokens.shape, -1)
        return self._logprobs(states, legal, self._edit_embeddings())

    def _logprobs(self, states: Tensor, legal: Tensor, table: Tensor) -> Tensor:
        """Of the next token, ``[..., V]``, after states ``[..., width]``; ``table`` is ``_edit_embeddings``."""
        return (states @ table.T + self.bias).masked_fill(~legal, float("-inf")).log_softmax(-1)

    def likelihood(self, states: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Log-probability of writing each chain, ``[B, C]``.

        Args:
            states: of ``decode``, ``[B, C, L, width]``.
            tokens: begin mark, edits, then stop tokens, ``[B, C, L + 1]``.
            lengths: edits and one stop token of each chain, ``[B, C]``.
        """
        targets = tokens[:, :, 1:]
        chosen = self.next_tokens(states, tokens[:, :, :-1]).gather(3, targets[..., None])[..., 0]
        real = torch.arange(targets.shape[2], device=targets.device) < lengths[..., None]
        return torch.where(real, chosen, 0.0).sum(2)

    def worth(self, states: Tensor, lengths: Tensor, memory: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """What each chain is predicted to gain in soft reward, and the logarithm of the variance that the gain of one
        question has, ``[B, C]`` each.

        Beside what the decoder makes of both, the product of the chain's state with the prompt counts: what a prompt
        suits, and what suits it, is found in far fewer steps that way.

        Args:
            states: of ``decode``, ``[B, C, L, width]``.
            lengths: edits and one stop token of each chain, ``[B, C]``.
            memory: of ``encode``, ``[B, M, width]``.
            padding: of it, ``[B, M]``.
        """
        ends = states.gather(2, (lengths - 1)[..., None, None].expand(-1, -1, 1, states.shape[3]))[:, :, 0]
        value, spread = self.value(ends).unbind(-1)
        prompt = mean_token(memory[:, :, None], padding)
        fit = (self.suits(ends) @ prompt[:, :, None])[..., 0] / self.config.width**0.5
        return value + fit, spread

    @torch.inference_mode()
    def weigh(self, features: Tensor, padding: Tensor, price: float | None = None) -> Tensor:
        """What decides about every chain of the menu, for prompts ``[B, T, F, H]``: the log-probability of writing it
        at this price, or its predicted gain over the base chain, ``[B, C]``."""
        device, size = self.bias.device, len(features)
        prices = torch.full((size,), self.rule.price if price is None else price, device=device)
        memory, hidden = self.encode(features.to(device), padding.to(device), prices)
        tokens = self._menu_tokens.to(device).expand(size, -1, -1)
        lengths = self._menu_lengths.to(device).expand(size, -1)
        states = self.decode(memory, hidden, tokens[:, :, :-1])
        if self.rule.decides == "probability":
            return self.likelihood(states, tokens, lengths)
        values, _ = self.worth(states, lengths, memory, hidden)
        return self.rule.calibrated(values - values[:, :1])

    def weigh_all(self, features: Sequence[Tensor], price: float | None = None) -> Tensor:
        """``weigh`` in eval mode for any number of prompts ``[T, F, H]``; the result is on the CPU."""
        order = sorted(range(len(features)), key=lambda index: len(features[index]))  # so that little is padding
        found = torch.empty(len(features), len(self.menu))
        with self._evaluating():
            for start in range(0, len(order), _PROMPTS_AT_ONCE):
                group = order[start : start + _PROMPTS_AT_ONCE]
                found[group] = self.weigh(*pad_features([features[index] for index in group]), price).cpu()
        return found

    def utilities(self, weighed: Tensor, price: float | None = None) -> Tensor:
        """By what the menu's chains are chosen, from what ``weigh`` gave, ``[B, C]``: log-probabilities or, where
        values decide, predicted gains and what the saved layers are worth at this price. There the base chain's is 0,
        and those of chains that do not exceed the threshold are below.
        """
        if self.rule.decides == "probability":
            return weighed
        price = self.rule.price if price is None else price
        saved = torch.tensor([1 - chain.depth / self.config.num_layers for chain in self.menu])
        utilities = weighed.cpu() + price * saved
        below = utilities.clamp(max=0.0) - 1e-9
        return torch.where(utilities > self.rule.threshold, utilities, below).index_fill(1, torch.tensor([0]), 0.0)

    def _edit_embeddings(self) -> Tensor:
        """``[V, width]``: an edit is the sum of its operation, start, length and times."""
        columns = self.vocabulary.factors.to(self.bias.device).unbind(1)
        parts = [embedding(column) for embedding, column in zip(self.factors, columns, strict=True)]
        return torch.stack(parts).sum(0)

    @torch.inference_mode()
    def write(self, features: Tensor, beams: int = 1, price: float | None = None) -> list[tuple[Chain, float]]:
        """The best chains of one prompt ``[T, F, H]`` with what they were chosen by, best first.

        With a menu up to ``beams`` of its chains with their utilities; else ``beams=1`` is greedy decoding and more is
        beam search, with log-probabilities. ``price`` is that of depth, default the rule's.
        """
        with self._evaluating():
            if not self.menu:
                return self._write_freely(features, beams, price)
            scores = self.utilities(self.weigh(*pad_features([features]), price), price)[0]
        best = scores.topk(min(beams, len(self.menu)))
        return [(self.menu[index], score) for score, index in zip(*map(Tensor.tolist, best), strict=True)]

    def _write_freely(self, features: Tensor, beams: int, price: float | None) -> list[tuple[Chain, float]]:
        """Beam search for the most probable chains of the space; with one beam, greedy decoding."""
        device = self.bias.device
        prices = None if price is None else torch.full((1,), price, device=device)
        prompt, padding = (tensor.to(device) for tensor in pad_features([features]))
        memory, padding = self.encode(prompt, padding, prices)
        growing: list[tuple[tuple[int, ...], float]] = [((STOP,), 0.0)]
        done: list[tuple[tuple[int, ...], float]] = []
        while growing:
            tokens = torch.tensor([written for written, _ in growing], device=device)[:, None]
            logprobs = self(memory.expand(len(growing), -1, -1), padding.expand(len(growing), -1), tokens)[:, 0, -1]
            scores = torch.tensor([score for _, score in growing], device=device)[:, None] + logprobs
            best = scores.flatten().topk(min(beams, scores.numel()))
            grown: list[tuple[tuple[int, ...], float]] = []
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                parent, token = divmod(index, len(self.vocabulary))
                if score > float("-inf"):
                    (done if token == STOP else grown).append(((*growing[parent][0], token), score))
            done = sorted(done, key=lambda beam: -beam[1])[:beams]
            # A beam can only lose from here on, so one below the worst kept chain is out.
            growing = [beam for beam in grown if len(done) < beams or beam[1] > done[-1][1]]
        return [(self.vocabulary.decode(list(written)), score) for written, score in done]

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Without dropout for the time of the block. Changing the mode of all modules takes as long as a block of the
        decoder, so it is left alone where it is right."""
        was_training = self.training
        if was_training:
            self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()

    def choose(self, features: Tensor, price: float | None = None) -> Chain:
        """The one chain to run for a prompt ``[T, F, H]``, at a price of depth."""
        return self.write(features, price=price)[0][0]

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``.

        Raises:
            UserError: if the folder cannot be written.
        """
        writable_folder(folder)
        weights = folder / _WEIGHTS
        write_bytes(weights, save({name: tensor.contiguous() for name, tensor in self.state_dict().items()}))
        files = {weights.name: sha256(weights)}
        values = {"controller": asdict(self.config), "rule": asdict(self.rule), "files": files}
        auto = {"model_type": "cola", "architectures": ["ColaForCausalLM"]}  # for transformers' Auto classes
        write_json(folder / "config.json", {**auto, "format": FORMAT, **values})

    @classmethod
    def from_pretrained(cls, folder: Path | str, revision: str | None = None) -> "Controller":
        """Load an exported controller, in eval mode.

        Args:
            folder: where it is, or its id on the Hugging Face hub.
            revision: on the hub.

        Raises:
            UserError: if there is none, or it is damaged.
        """
        folder = fetch_controller(folder, revision)
        try:
            values = read_json(folder / "config.json", edited=True)
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']}, this version of cola-learn reads {FORMAT}")
            controller = cls(as_value(ControllerConfig, values["controller"]), as_value(ChoiceRule, values["rule"]))
            weights = folder / _WEIGHTS
            if values["files"] != {weights.name: sha256(weights)}:
                raise ValueError(f"{weights.name} is not the file that was written")
            controller.load_state_dict(load_file(weights))
            if name := next((name for name, one in controller.state_dict().items() if not one.isfinite().all()), None):
                raise ValueError(f"{name} holds values that are not finite")
        except FileNotFoundError as error:
            raise UserError(
                f"controller {folder} is not an exported controller (no {Path(str(error.filename)).name}); "
                "make one with python -m cola_learn.export"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            reason = first_line(error)
            raise UserError(f"controller {folder} cannot be read ({reason}); export it again") from None
        return controller.eval()


@functools.lru_cache(maxsize=64)
def _other_chains_and_later(chains: int, length: int) -> Tensor:
    """Minus infinity for what a token may not see of ``chains`` sequences side by side, else 0,
    ``[chains * length, chains * length]``."""
    with torch.inference_mode(False):  # it is kept for training too
        visible = torch.block_diag(*[torch.ones(length, length).tril()] * chains)
        return torch.zeros_like(visible).masked_fill(visible == 0, float("-inf"))
