"""Training of VLTP: SAM by prompts, the guide by answers, then the stages that prune."""
