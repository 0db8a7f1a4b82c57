"""Send documents to extraction services from Prefect flows: pay once, wait cheaply, one kind of result."""

__version__ = "0.1.0"
