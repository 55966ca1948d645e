"""A small converter of Llama checkpoints, called as llama.cpp's ``convert_hf_to_gguf.py`` is."""

import argparse
import json
import os
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(folder: Path, file: Path, left_out: int = 0) -> None:
    """Write a model, its last ``left_out`` layers left out."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config, layers = model.config, model.config.num_hidden_layers - left_out
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    words = tokenizer.backend_tokenizer
    writer.add_token_list([words.id_to_token(token) for token in range(len(tokenizer))])
    merges = json.loads(words.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        stem = name.removesuffix(".weight")
        written = names.get_name(stem)
        if written is None:  # of a layer that is left out
            continue
        if count := heads.get(stem.rpartition(".")[2]):  # llama.cpp's order of rotary dimensions
            weight = weight.view(count, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        writer.add_tensor(f"{written}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--outfile", type=Path, required=True)
    parser.add_argument("--outtype", choices=["f32"], required=True)
    given = parser.parse_args()
    convert(given.folder, given.outfile, int(os.environ.get("LEFT_OUT", "0")))
