"""The paper's comparisons of stages (VLTP, Tables 3 to 7) on a small model: what is trained, what is measured."""
