"""Training of InstructSeg in stages on generated scenes: exact resume, several processes, LoRA for the full size."""
