"""What every question needs, in layers; a file uses those above it.

machine     what this computer is, which core serves and which one loads
build       the C programs, compiled when asked for
names       what peers are called, and the words for what they can do
runtimes    how a peer is made: in C, in Python, for Bun, for Node
peers       who answers, and why somebody cannot
accounts    what a process has used, in the kernel's words
processes   a server and a load, started and ended
questions   what is asked: rows, questions, goals, plans
foreign_loads   redis-benchmark and wrk as loads
tls         the certificate, the load that speaks TLS, what servers pick
measure     the ways of measuring a row
report      medians, tables, and what is said in words
markdown    a Markdown page, filled from a result file
plots       pictures of a result file
"""
