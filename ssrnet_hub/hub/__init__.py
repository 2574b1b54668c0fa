"""Weights to and from the Hugging Face Hub or a folder: loading, conversion, check tensors, cards, push."""
