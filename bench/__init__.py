"""Workloads: what the product is measured with. Each module that `bench.__main__` names is one, with a `run`."""
