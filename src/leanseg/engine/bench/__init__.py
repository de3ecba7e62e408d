"""Timings: what each stage and each way of choosing tokens takes on this machine."""
