"""What others would write for the same job: store every event once, enriched with its user, partial failures reported.

Each is a complete handler, written from the public documentation of boto3 and Powertools for AWS Lambda and given every
care that does not change its nature: sessions are kept, tokens and users cached, nothing is logged. ``floor`` is no
handler but the least that any of them could cost.
"""
