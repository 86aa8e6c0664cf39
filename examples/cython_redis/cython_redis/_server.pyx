# cython: language_level=3, cdivision=True
"""A RESP server on pybuntcp's slots: no GIL and no Python object for a connection or a request.

This page is the table of contents. Each chapter uses those above it, and no other. Functions that
may run out of memory are `except -1`: the connection that asked for too much ends, the server goes on.
"""
include "_server/text.pyx"          # letters, and integers as text
include "_server/inline.pyx"        # the words of a line typed by hand
include "_server/requests.pyx"      # bytes to requests, cut anywhere
include "_server/replies.pyx"       # bytes of a reply, kind by kind
include "_server/store.pyx"         # keys and values
include "_server/clients.pyx"       # what a connection keeps, and what all share
include "_server/table.pyx"         # what commands there are
include "_server/strings.pyx"       # commands: keys and values
include "_server/sessions.pyx"      # commands: the connection and the server
include "_server/commands.pyx"      # the table of all commands, and the way in
include "_server/slots.pyx"         # the server, joined to sockets
