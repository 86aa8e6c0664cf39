"""verdict: what the verification of a peer found.

Owns how OpenSSL's result becomes the error that `Socket.get_authorization_error` returns. Does not decide whether the
peer is refused (see config).
"""

from __future__ import annotations

import ssl
from typing import Any

HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH


def verdict_of(connection: Any) -> ssl.SSLError | None:
    """None: the peer's certificate is good."""
    if not connection.has_peer_certificate():
        return ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer did not return a certificate")
    if not connection.borrowed:
        if connection.object.context.verify_mode != ssl.CERT_NONE:
            return None
        return ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, "certificate not verified: reject_unauthorized is False")
    code, message = connection.verify_result()
    if code == 0 and name_is_unchecked(connection) and not connection.is_for(connection.server_hostname):
        code, message = HOSTNAME_MISMATCH, "Hostname mismatch"
    if code == 0:
        return None
    error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def name_is_unchecked(connection: Any) -> bool:
    """OpenSSL compares the name when it verifies a certificate, and it verifies none when a session is resumed."""
    return (
        connection.config.check_hostname
        and connection.server_hostname is not None
        and bool(connection.object.session_reused)
    )
