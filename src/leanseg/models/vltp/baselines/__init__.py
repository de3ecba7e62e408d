"""What VLTP's paper compares with, inside the same SAM: CTS, DToP and SViT. None of them sees the instruction."""
