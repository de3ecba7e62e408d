"""How each benchmark scores: one protocol per file. Names load on first use."""
