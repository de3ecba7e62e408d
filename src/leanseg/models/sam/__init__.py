"""SAM (arXiv:2304.02643), with the parameter names of its release."""
