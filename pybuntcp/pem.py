"""pem: where the extension _tls looks for `readable`."""

from .tls.memory_file import readable as readable
