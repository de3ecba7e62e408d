"""VLTP (arXiv:2409.08464): SAM with a fraction of its image tokens, chosen by what the language model asks for."""
