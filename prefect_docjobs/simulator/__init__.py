"""The four services on localhost: for demos, for tests, and to try a flow without a key.

``settings`` says what can be set; ``backend`` holds the jobs, without HTTP; ``faults`` stands in front of
every service route; ``mindee``, ``mindee_v1``, ``numind`` and ``unsiloed`` speak the services' protocols;
``server`` puts them on one origin and on a port. Nothing in here imports Prefect.
"""
