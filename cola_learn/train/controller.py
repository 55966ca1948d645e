"""The controller: a small transformer decoder that reads a prompt's embedding and writes a chain.

It writes the chain's edits one after the other, each conditioned on the prompt and on the edits before it,
and ends with a stop token; a mask admits only sequences that are legal chains of the search space.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cola_learn.chains import Chain, SearchSpace
from cola_learn.cli import UserError, writable_folder, write_text
from cola_learn.train.vocabulary import STOP, EditVocabulary

FORMAT = 1


@dataclass(frozen=True)
class ControllerConfig:
    """Everything that a controller's shape and inputs depend on.

    Attributes:
        num_layers, hidden_size: N and H of the backbone.
        space: the search space that it writes chains of.
        feature_layers: after how many layers of the backbone the prompt is read; 0 is the embedding layer.
        width, blocks, heads: size of the decoder.
        dropout: while training.
        backbone, fingerprint: the model it was trained for.
    """

    num_layers: int
    hidden_size: int
    space: SearchSpace = field(default_factory=SearchSpace)
    feature_layers: tuple[int, ...] = (0, 2, 4)
    width: int = 128
    blocks: int = 2
    heads: int = 4
    dropout: float = 0.1
    backbone: str = ""
    fingerprint: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ControllerConfig":
        """From what :func:`dataclasses.asdict` or a JSON file gives."""
        space = SearchSpace(**values["space"])
        return cls(**{**values, "space": space, "feature_layers": tuple(values["feature_layers"])})


class Controller(nn.Module):
    """Reads prompt features ``[B, T, F, H]`` and writes chains.

    Shapes: B prompts, T tokens, F feature layers, H the backbone's hidden size, L edit tokens with the begin
    mark, V the vocabulary of edits.
    """

    def __init__(self, config: ControllerConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = EditVocabulary(config.num_layers, config.space)
        width, features = config.width, len(config.feature_layers)
        self.scale = nn.ModuleList([nn.LayerNorm(config.hidden_size) for _ in config.feature_layers])
        self.read = nn.Linear(features * config.hidden_size, width)
        sizes = (3, config.num_layers, config.space.max_block + 1, config.space.max_extra + 2)
        self.factors = nn.ModuleList([nn.Embedding(size, width) for size in sizes])
        self.begin = nn.Parameter(torch.zeros(width))
        self.places = nn.Embedding(config.num_layers + 1, width)
        block = nn.TransformerDecoderLayer(
            width, config.heads, 4 * width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(block, config.blocks, nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(len(self.vocabulary)))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.5 * width**-0.5)

    def encode(self, features: Tensor) -> Tensor:
        """Prompt features ``[B, T, F, H]`` to memory ``[B, T, width]``."""
        features = features.to(self.read.weight.dtype)
        scaled = [norm(features[:, :, index]) for index, norm in enumerate(self.scale)]
        memory: Tensor = self.read(torch.cat(scaled, dim=-1))
        return memory

    def forward(self, memory: Tensor, padding: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities of the next token after every prefix.

        Args:
            memory: ``[B, T, width]``.
            padding: True where memory is padding, ``[B, T]``.
            tokens: edits so far, ``[B, L]``; column 0 is the begin mark, any value.

        Returns:
            ``[B, L, V]``, minus infinity for illegal tokens.
        """
        length = tokens.shape[1]
        table = self._edit_embeddings()
        inputs = torch.cat([self.begin.expand(len(tokens), 1, -1), table[tokens[:, 1:]]], dim=1)
        inputs = inputs + self.places.weight[:length]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        states = self.decoder(inputs, memory, tgt_mask=causal, memory_key_padding_mask=padding)
        logits = states @ table.T + self.bias
        begun = torch.cat([torch.full_like(tokens[:, :1], STOP), tokens[:, 1:]], dim=1)
        legal = self.vocabulary.legal_everywhere(begun)
        return logits.masked_fill(~legal, float("-inf")).log_softmax(-1)

    def _edit_embeddings(self) -> Tensor:
        """``[V, width]``: an edit is the sum of its operation, start, length and times."""
        columns = self.vocabulary.factors.to(self.bias.device).unbind(1)
        parts = [embedding(column) for embedding, column in zip(self.factors, columns, strict=True)]
        return torch.stack(parts).sum(0)

    @torch.inference_mode()
    def write(self, features: Tensor, beams: int = 1) -> list[tuple[Chain, float]]:
        """The most probable chains of one prompt ``[T, F, H]`` with log-probabilities, best first.

        ``beams=1`` is greedy decoding; more is beam search that returns up to ``beams`` chains.
        """
        was_training, device = self.training, self.bias.device
        self.eval()
        memory = self.encode(features[None].to(device))
        open_beams: list[tuple[list[int], float]] = [([STOP], 0.0)]
        done: list[tuple[list[int], float]] = []
        while open_beams:
            tokens = torch.tensor([beam for beam, _ in open_beams], device=device)
            stretched = memory.expand(len(tokens), -1, -1)
            padding = torch.zeros(stretched.shape[:2], dtype=torch.bool, device=device)
            scores = self(stretched, padding, tokens)[:, -1]
            scores = scores + torch.tensor([score for _, score in open_beams], device=device)[:, None]
            best = scores.flatten().topk(min(beams, scores.numel()))
            grown: list[tuple[list[int], float]] = []
            for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                beam, token = open_beams[place // len(self.vocabulary)][0], place % len(self.vocabulary)
                if score > float("-inf"):
                    (done if token == STOP else grown).append(([*beam, token], score))
            done = sorted(done, key=lambda pair: -pair[1])[:beams]
            # A beam can only lose from here on, so one below the worst kept chain is out.
            open_beams = [pair for pair in grown if len(done) < beams or pair[1] > done[-1][1]]
        self.train(was_training)
        return [(self.vocabulary.decode(beam[1:]), score) for beam, score in done]

    def choose(self, features: Tensor) -> Chain:
        """The one chain to run for a prompt ``[T, F, H]``."""
        return self.write(features)[0][0]

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``.

        Raises:
            UserError: if the folder cannot be written.
        """
        writable_folder(folder)
        scratch = folder / ".model.safetensors.tmp"
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, scratch)
        os.replace(scratch, folder / "model.safetensors")
        config = {"format": FORMAT, "controller": asdict(self.config)}
        write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "Controller":
        """Load an exported controller, in eval mode.

        Raises:
            UserError: if the folder does not hold one, or it is damaged.
        """
        folder = Path(folder)
        try:
            config = ControllerConfig.from_dict(json.loads((folder / "config.json").read_text())["controller"])
            controller = cls(config)
            controller.load_state_dict(load_file(folder / "model.safetensors"))
        except FileNotFoundError as error:
            raise UserError(
                f"--controller {folder} is not an exported controller (no {Path(str(error.filename)).name}); "
                "make one with python -m cola_learn.export"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"--controller {folder} cannot be read ({reason}); export it again") from None
        return controller.eval()

    def check_backbone(self, num_layers: int, fingerprint: str, name: str) -> None:
        """Refuse a backbone that this controller was not trained for.

        Raises:
            UserError: naming what differs.
        """
        config = self.config
        if config.num_layers != num_layers:
            raise UserError(
                f"the controller is for {config.num_layers} layers; --backbone {name} has {num_layers}; "
                f"use --backbone {config.backbone}"
            )
        if config.fingerprint != fingerprint:
            raise UserError(
                f"the controller was trained for backbone {config.backbone} ({config.fingerprint}), "
                f"not {name} ({fingerprint}); use --backbone {config.backbone}"
            )


def pad_features(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts ``[T_i, F, H]`` as one batch ``[B, T, F, H]`` and its padding mask ``[B, T]``, True = padding."""
    lengths = torch.tensor([len(tensor) for tensor in features])
    padded = nn.utils.rnn.pad_sequence(list(features), batch_first=True)
    return padded, torch.arange(padded.shape[1])[None, :] >= lengths[:, None]
