"""One self-contained page about one evaluation: tables, plots, cases chosen by rule, protocol, costs and latency."""
