"""Other handlers for the same job: store every event once, enriched with its user, and report partial failures.

Each is a complete handler, written from the public documentation of boto3 and Powertools for AWS Lambda. All of them
keep their HTTP sessions and cache tokens and users; none logs. ``floor`` is a lower bound, not a complete handler.
"""
