"""The Mindee V2 API, simulated: all five products, jobs, results, model search and webhooks.

Sources: the Mindee V2 OpenAPI (jobs and product files), the mindee 5.4.0 SDK, docs.mindee.com.
"""
