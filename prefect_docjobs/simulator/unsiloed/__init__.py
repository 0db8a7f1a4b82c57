"""The Unsiloed API, simulated: parse, extract, classify, split, and the generic job routes.

Sources: the Unsiloed docs in their several editions, unsiloed-sdk 0.1.7, the service's newer OpenAPI.
"""
