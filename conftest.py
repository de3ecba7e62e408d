"""What is left out when doctests are collected: a module that needs a package which is not everywhere."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("triton") else ["src/leanseg/core/kcenter/gpu.py"]
