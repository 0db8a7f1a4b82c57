"""The NuMind (NuExtract) API, simulated: projects, templates, content extraction, jobs, streams.

Sources: JobsApi.md of the numind SDK, and the SDK itself in its releases 0.2.0 and 0.4.2.
"""
