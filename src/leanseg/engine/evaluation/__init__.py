"""Evaluation: every sample of a data set under every row of a grid, on one machine or many; lines that resume."""
