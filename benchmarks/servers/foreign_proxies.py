"""The peers `haproxy` and `nginx-stream`: a TCP proxy, one process of one thread. It owns their configurations and nothing else."""

from __future__ import annotations

from pathlib import Path

from becoming import become, free_port, make_parser

FOLDER = Path(__file__).resolve().parents[1] / "build"
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen proxy
  bind {host}:{port} backlog 4096
  server upstream {host}:{upstream}
"""
NGINX = """
{module}
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
stream {{
  server {{
    listen {host}:{port} backlog=4096;
    proxy_pass {host}:{upstream};
  }}
}}
"""

if __name__ == "__main__":
    parser = make_parser(__doc__.splitlines()[0], "proxy")
    parser.add_argument("--upstream", type=int, required=True, metavar="PORT")
    parser.add_argument("--program", choices=("haproxy", "nginx"), required=True)
    parser.add_argument("--module", default="", help="nginx: the file of its stream module; none: it is compiled in")
    given = parser.parse_args()
    folder = FOLDER / f"{given.program}-proxy"
    folder.mkdir(parents=True, exist_ok=True)
    file, port = folder / "configuration", free_port(given.host)
    words = {"host": given.host, "port": port, "upstream": given.upstream}
    module = f"load_module {given.module};" if given.module else ""
    file.write_text((HAPROXY if given.program == "haproxy" else NGINX).format(module=module, **words))
    if given.program == "haproxy":
        become(given.host, port, "haproxy", "-q", "-db", "-f", str(file))
    else:
        become(given.host, port, "nginx", "-p", str(folder), "-c", str(file), "-e", "stderr")
