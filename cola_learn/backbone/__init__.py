"""The frozen LLM: its layers as functions, run in any order, shared work done once."""
