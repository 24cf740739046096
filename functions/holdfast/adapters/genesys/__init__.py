"""The Genesys Cloud client: users by id.

Import this package only where enrichment is configured. It loads the library requests, which a cold start
without enrichment does not need.

=================  ===================================================================
``user_directory``  the port: cache, bulk look-up, which answers mean what
``token``           the OAuth token: cached, renewed before its end and after a 401
``breaker``         the circuit breaker
``api``             one call with retries
``http``            one request, bounded in time and in size
=================  ===================================================================
"""

from holdfast.adapters.genesys.user_directory import GenesysUserDirectory, Urls

__all__ = ["GenesysUserDirectory", "Urls"]
