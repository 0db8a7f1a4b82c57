"""Scripts for the official SDKs, run in an environment of their own: nothing of this project is imported."""
