"""Using a controller: a model that chooses its chain of layers, and exporting it for others."""

from cola_learn.infer.apply import apply_chain
from cola_learn.infer.model import ColaForCausalLM

__all__ = ["ColaForCausalLM", "apply_chain"]
