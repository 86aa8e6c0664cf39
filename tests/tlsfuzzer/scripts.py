"""Which scripts of tlsfuzzer are run, against which servers, with which arguments; and the differences that are meant.

Owns the list. A script is told what is right for OpenSSL, as far as both servers share it: those that a server of
OpenSSL's cannot pass as a whole stay in the list all the same, because what is asked is whether ours does worse.
Left out, each with its reason: LEFT_OUT.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

ALL_SUITES = "ALL:!aNULL:@SECLEVEL=0"  # scripts of TLS 1.2 begin with RSA key exchange, and with suites that nobody has by default
BOUND = 40  # conversations of a script, unless the list says otherwise; "sanity" comes twice more


@dataclass(frozen=True)
class Server:
    """How both servers are configured. `certificate`, `client_ca`: kinds of certificates.py. "" is none, or the default."""

    name: str
    certificate: str = "rsa"
    client_ca: str = ""
    min_version: str = "TLSv1.2"
    max_version: str = "TLSv1.3"
    ciphers: str = ALL_SUITES
    ecdh_curve: str = ""
    alpn: tuple[str, ...] = ()
    names: tuple[
        str, ...
    ] = ()  # these have contexts of their own, with the same certificate: scripts look at the first one
    echo: bool = False


@dataclass(frozen=True)
class Script:
    """`arguments` without those of host, port and bound; bound None: the script takes none; {rsa.key} and {rsa.pem} are the files of that certificate."""

    server: Server
    name: str
    arguments: tuple[str, ...] = ()
    bound: int | None = BOUND

    @property
    def module(self) -> str:
        return "test_" + self.name.replace("-", "_")

    @property
    def label(self) -> str:
        """What tells it from the others: the server, the script, and its switches."""
        return " ".join([self.server.name, self.name, *self.arguments])


RSA = Server("rsa", min_version="TLSv1")
TWELVE = Server("1.2", min_version="TLSv1", max_version="TLSv1.2")
DEFAULTS = Server("defaults", ciphers="")
ECHO = Server("echo", echo=True)
ALPN = Server("alpn", alpn=("http/1.1", "h2"))
NAMES = Server("names", min_version="", max_version="", names=("localhost", "localhost4"))
ECDSA = Server("ecdsa", certificate="p256")
PSS = Server("pss", certificate="rsa-pss")
ED25519 = Server("ed25519", certificate="ed25519")
ED448 = Server("ed448", certificate="ed448")
DSA = Server("dsa", certificate="dsa", max_version="TLSv1.2")
CLIENTS = Server("clients", client_ca="rsa p256 rsa-pss ed25519 ed448")
DSA_CLIENTS = Server("dsa-clients", certificate="dsa", client_ca="dsa", max_version="TLSv1.2")


def parse(server: Server, text: str) -> Iterator[Script]:
    """A script a line: its name, `*N` for a bound of its own or `*-` for one that takes none, its arguments.

    Words in quotes hold spaces.
    """
    for line in text.strip().splitlines():
        name, *arguments = shlex.split(line, comments=True)
        bounds = str(BOUND)
        if arguments and arguments[0].startswith("*"):
            bounds = arguments.pop(0)[1:]
        yield Script(server, name, tuple(arguments), None if bounds == "-" else int(bounds))


SCRIPTS: tuple[Script, ...] = (
    *parse(
        RSA,
        """
        TLSv1_2-rejected-without-TLSv1_2
        aes-gcm-nonces
        aesccm
        aesccm -d
        atypical-padding
        bleichenbacher-workaround -t 0.05
        ccs
        chacha20
        client-compatibility
        clienthello-md5
        connection-abort
        conversation
        conversation -d
        cve-2004-0079
        cve-2016-2107
        cve-2016-6309
        cve-2016-7054 *20
        dhe-key-share-random *4 --repeat 4
        dhe-rsa-key-exchange
        dhe-rsa-key-exchange-signatures
        dhe-rsa-key-exchange-with-bad-messages
        downgrade-protection --server-max-protocol=TLSv1.3
        early-application-data
        ecdhe-rsa-key-exchange
        ecdhe-rsa-key-exchange-with-bad-messages
        ecdhe-rsa-key-share-random *4 --repeat 4
        empty-extensions
        encrypt-then-mac
        encrypt-then-mac -d
        encrypt-then-mac-renegotiation
        export-ciphers-rejected --min-ver TLSv1.0
        extended-master-secret-extension
        extended-master-secret-extension -d
        extensions
        fallback-scsv --tls-1.3
        ffdhe-expected-params
        ffdhe-negotiation
        fuzzed-MAC
        fuzzed-ciphertext
        fuzzed-ciphertext -d
        fuzzed-finished
        fuzzed-padding
        fuzzed-plaintext *20 --random 20
        no-heartbeat
        hello-request-by-client
        interleaved-CKE-with-CCS
        interleaved-application-data-in-renegotiation
        interleaved-application-data-and-fragmented-handshakes-in-renegotiation
        invalid-cipher-suites
        invalid-client-hello
        invalid-client-hello-w-record-overflow
        invalid-compression-methods
        invalid-content-type
        invalid-rsa-key-exchange-messages
        invalid-server-name-extension
        invalid-server-name-extension-resumption
        invalid-session-id
        invalid-version
        large-hello *10
        large-number-of-extensions
        legacy-renegotiation
        lucky13 *2 --quick
        message-duplication
        message-skipping
        message-skipping -d
        no-mlkem-in-old-tls
        ocsp-stapling --no-status
        openssl-3712
        point-extension
        record-layer-fragmentation
        renegotiation-changed-clienthello
        renegotiation-disabled
        resumption-with-wrong-ciphers
        serverhello-random *4 --repeat 4
        session-ticket-resumption --no-new-ticket-on-resumption
        sessionID-resumption
        sig-algs
        sig-algs-renegotiation-resumption --sig-algs-drop-ok --no-renego
        signature-algorithms
        ssl-death-alert
        sslv2-connection
        sslv2-force-cipher
        sslv2-force-cipher-3des
        sslv2-force-cipher-non3des
        sslv2-force-export-cipher
        sslv2hello-protocol
        truncating-of-client-hello
        truncating-of-finished
        truncating-of-kRSA-client-key-exchange
        unsupported-curve-fallback
        version-numbers
        x25519
        zero-length-data
        zero-length-data -d
        tls13-0rtt-garbage
        tls13-ccs
        tls13-certificate-compression
        tls13-connection-abort
        tls13-conversation
        tls13-count-tickets -t 1
        tls13-count-tickets -t 2
        tls13-crfg-curves
        tls13-ecdhe-curves
        tls13-empty-alert
        tls13-ffdhe-groups
        tls13-ffdhe-sanity
        tls13-finished
        tls13-finished-plaintext
        tls13-hrr
        tls13-invalid-ciphers
        tls13-keyshare-omitted
        tls13-keyupdate
        tls13-large-number-of-extensions --supgroup
        tls13-legacy-version
        tls13-multiple-ccs-messages
        tls13-no-unknown-groups
        tls13-nociphers
        tls13-obsolete-curves
        tls13-pkcs-signature
        tls13-record-layer-limits *20
        tls13-record-padding
        tls13-rsa-signatures
        tls13-serverhello-random *4 --repeat 4
        tls13-session-resumption
        tls13-shuffled-extentions *20
        tls13-signature-algorithms
        tls13-symetric-ciphers
        tls13-unencrypted-alert
        tls13-unrecognised-groups
        tls13-version-negotiation
        tls13-zero-content-type
        tls13-zero-length-data
        """,
    ),
    *parse(
        TWELVE,
        """
        conversation
        downgrade-protection --server-max-protocol=TLSv1.2
        fallback-scsv
        tls13-non-support
        """,
    ),
    *parse(
        DEFAULTS,
        """
        ccs -C TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        connection-abort -C TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        conversation -C TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        cve-2016-7054 *20 -C TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        fuzzed-ciphertext -d
        large-hello *10 -d
        record-layer-fragmentation -C TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        renegotiation-disabled -C TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        tls13-conversation
        tls13-connection-abort
        tls13-keyupdate
        tls13-symetric-ciphers
        """,
    ),
    *parse(
        ECHO,
        """
        lengths *30
        tls13-lengths *30
        """,
    ),
    *parse(
        ALPN,
        """
        alpn-negotiation
        alpn-negotiation -d
        client-hello-max-size
        """,
    ),
    *parse(
        NAMES,
        """
        conversation
        invalid-server-name-extension
        invalid-server-name-extension --sni localhost
        invalid-server-name-extension-resumption --sni localhost
        session-ticket-resumption --no-new-ticket-on-resumption
        sessionID-resumption
        tls13-conversation
        tls13-hrr
        tls13-session-resumption
        """,
    ),
    *parse(
        ECDSA,
        """
        aesccm -d
        ecdsa-sig-flexibility
        signature-algorithms --ecdsa
        tls13-conversation
        tls13-ecdsa-support
        """,
    ),
    *parse(
        PSS,
        """
        sig-algs
        tls13-rsapss-signatures
        """,
    ),
    *parse(ED25519, "tls13-eddsa"),
    *parse(ED448, "tls13-eddsa"),
    *parse(DSA, "dsa-sig-flexibility"),
    *parse(
        CLIENTS,
        """
        certificate-malformed -k {rsa.key} -c {rsa.pem}
        certificate-request -k {rsa.key} -c {rsa.pem}
        certificate-verify -k {rsa.key} -c {rsa.pem}
        certificate-verify -d -k {rsa.key} -c {rsa.pem}
        certificate-verify-malformed -k {rsa.key} -c {rsa.pem}
        certificate-verify-malformed-sig -k {rsa.key} -c {rsa.pem}
        ecdsa-in-certificate-verify -k {p256.key} -c {p256.pem}
        eddsa-in-certificate-verify -k {ed25519.key} -c {ed25519.pem}
        eddsa-in-certificate-verify -k {ed448.key} -c {ed448.pem}
        extended-master-secret-extension-with-client-cert *- -k {rsa.key} -c {rsa.pem}
        rsa-pss-sigs-on-certificate-verify -k {rsa.key} -c {rsa.pem}
        rsa-sigs-on-certificate-verify -k {rsa.key} -c {rsa.pem}
        tls13-certificate-request *- -k {rsa.key} -c {rsa.pem}
        tls13-certificate-verify -k {rsa.key} -c {rsa.pem}
        tls13-certificate-verify -k {rsa-pss.key} -c {rsa-pss.pem}
        tls13-ecdsa-in-certificate-verify -k {p256.key} -c {p256.pem}
        tls13-eddsa-in-certificate-verify -k {ed25519.key} -c {ed25519.pem}
        tls13-eddsa-in-certificate-verify -k {ed448.key} -c {ed448.pem}
        """,
    ),
    *parse(DSA_CLIENTS, "dsa-in-certificate-verify -d -k {dsa.key} -c {dsa.pem}"),
)

BY_CHANCE = "goes on until a shared secret begins with a zero: more than a thousand handshakes"
LEFT_OUT = {
    "bleichenbacher-timing-marvin": "measures time, and needs tcpdump",
    "bleichenbacher-timing-pregenerate": "measures time, and needs tcpdump",
    "tls13-minerva": "measures time, and needs tcpdump",
    "dhe-no-shared-secret-padding": BY_CHANCE,
    "ecdhe-padded-shared-secret": BY_CHANCE,
    "tls13-dhe-shared-secret-padding": BY_CHANCE,
    "SSLv3-padding": "OpenSSL is built without SSL 3",
    "tls13-ecdhe-brainpool-curves": "OpenSSL has these groups in TLS 1.3 from 3.2 on",
    "tls13-ecdsa-brainpool-in-certificate-verify": "OpenSSL has these curves in TLS 1.3 from 3.2 on",
    "tls13-mlkem": "OpenSSL has ML-KEM from 3.5 on",
    "tls13-mldsa-in-certificate-verify": "OpenSSL has ML-DSA from 3.5 on",
    "tls13-client-certificate-compression": "OpenSSL has compressed certificates from 3.2 on, and Python's is built without",
    "renegotiation-disabled-client-cert": "for a server that asks for certificates in a renegotiation",
    "heartbeat": "OpenSSL has none since 3.0; no-heartbeat is run",
    "record-size-limit": "OpenSSL has no such extension",
    "tls13-keyupdate-from-server": "a server that sends KeyUpdate: `ssl` and pybuntcp have no option for it",
    "tls13-post-handshake-auth": "pybuntcp has no option for it",
    "tls13-psk_ke": "pybuntcp has no option for pre-shared keys",
    "tls13-psk_dhe_ke": "pybuntcp has no option for pre-shared keys",
}

KNOWN: dict[tuple[str, str], str] = {
    (f"{RSA.name} tls13-count-tickets -t 2", "count NewSessionTickets"): "one session ticket, where OpenSSL sends two",
}
