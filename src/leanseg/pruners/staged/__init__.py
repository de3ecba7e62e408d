"""Methods for stages inside a vision encoder, whose dropped tokens are frozen and may come back."""
