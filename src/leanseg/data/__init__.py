"""Samples and where they come from: generated scenes, and readers and writers of the public data sets' layouts."""

from leanseg.data.registry import open_dataset as open
from leanseg.data.sample import Dataset, Sample

__all__ = ["Dataset", "Sample", "open"]
