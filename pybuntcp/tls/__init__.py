"""tls: from the option `tls=` to what connections are made of.

    options      TLSOptions, the options themselves
    reader       read_tls, read_upgrade: the way in, for api.py and the core
    connecting   from a value of `tls=` to a Config
    settings     which options fit which role; what a server's options say, with files read and under each name of `sni`
    config       Config: what the engine makes connections of, and asks when a handshake is done
    verdict      what the verification of a peer found
    contexts     from TLSOptions to an `ssl.SSLContext`
    cache        which contexts are shared, by a digest of all that they are made of
    identity     which certificate belongs to which key
    certificate  what a certificate contains
    pem          PEM, from memory or files
    memory_file  paths by which OpenSSL reads what is in memory
    alpn         names of application protocols
    errors       errors that name the option

Importing this package, `options` or `reader` imports no `ssl`: a program without TLS does without it.
"""
