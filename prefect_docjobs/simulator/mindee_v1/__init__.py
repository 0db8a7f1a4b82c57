"""The asynchronous routes of the Mindee V1 API, simulated: enqueue, queue, documents and webhooks.

Sources: Mindee's "Asynchronous Prediction" page, the mindee 5.4.0 SDK, Mindee's published test data.
"""
