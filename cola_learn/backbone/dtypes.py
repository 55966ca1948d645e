"""Options of backbones; importing them loads no model."""

from typing import Literal

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Bos = Literal["auto", "yes", "no"]
