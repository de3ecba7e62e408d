"""Hugging Face vision-language models: pruning one by `attach`, and reading a layer's attention."""
