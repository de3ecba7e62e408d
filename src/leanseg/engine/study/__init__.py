"""Studies: a question, the evaluations that answer it, and the tables, plot and sentences made of them."""
