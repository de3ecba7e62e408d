"""What runs the models: loading by name, reading and writing pictures and clips, overlays, evaluation, training."""
