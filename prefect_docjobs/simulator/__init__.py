"""The four services on localhost: for demos, for tests, and to try a flow without a key.

``settings`` says what can be set; ``engine`` is the world of jobs without HTTP; ``faults`` stands in front of
every service route; ``mindee``, ``mindee_v1``, ``numind`` and ``unsiloed`` speak the services' protocols;
``app`` puts them on one origin and ``server`` on a port. Nothing in here imports Prefect.
"""
