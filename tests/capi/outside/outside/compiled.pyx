# cython: language_level=3, freethreading_compatible=True
"""compiled: classes of Python handlers that Cython has compiled."""


class Misspelt:
    def data(self, socket, chunk):
        pass

    def on_close(self, socket, error):
        pass


class Short:
    """`data` lacks a parameter."""
    def data(self, socket):
        pass


class Async:
    async def data(self, socket, chunk):
        pass


class Looks:
    """It answers with more than the kernel takes, and looks at the count."""
    def __init__(self):
        self.taken = []

    def data(self, socket, chunk):
        self.socket = socket
        self.taken.append(socket.write(bytes(50_000_000)))
