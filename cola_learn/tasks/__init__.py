"""A benchmark as samples, prompts and a reward."""
