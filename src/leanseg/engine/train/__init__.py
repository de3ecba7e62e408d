"""Training of InstructSeg: staged recipes on generated scenes, exact resume, several processes, LoRA for the full
size.
"""
