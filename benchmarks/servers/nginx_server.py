"""The peer `nginx`: one process of it, answering what the tiny HTTP servers answer, from memory. It owns the configuration and nothing else."""

from __future__ import annotations

from pathlib import Path

from becoming import become, free_port, parse

FOLDER = Path(__file__).resolve().parents[1] / "build" / "nginx"
CONFIGURATION = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000;
  server {{
    listen {host}:{port} backlog=4096;
    location / {{ default_type text/plain; return 200 "Hello, World!"; }}
  }}
}}
"""

if __name__ == "__main__":
    arguments = parse(__doc__.splitlines()[0], "http")
    port = free_port(arguments.host)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "nginx.conf"
    file.write_text(CONFIGURATION.format(host=arguments.host, port=port))
    become(arguments.host, port, "nginx", "-p", str(FOLDER), "-c", str(file), "-e", "stderr")
