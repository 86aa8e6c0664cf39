// Failing connects: who is told, when, and with what. The same scenarios in Python: connecting.py.

import { actor, attempt, logging, main } from "./harness";

/** Connects with logging handlers and logs what the awaitable gives, and when connect() itself returned. */
function connect(options: object, extra: object = {}, without: string[] = []): void {
  const log = actor("client");
  const awaited = actor("awaited");
  const socket = logging("client", extra, without);
  const promise = Bun.connect({ socket, ...options } as any);
  log("connect returned");
  promise.then(
    () => awaited("a socket"),
    error => awaited(error.code ?? error.message),
  );
}

/** A port of 127.0.0.1 where nobody listens any more. */
function free_port(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  listener.stop(true);
  return listener.port;
}

main({
  refused() {
    connect({ hostname: "127.0.0.1", port: free_port() });
  },

  refused_without_a_connect_error_handler() {
    connect({ hostname: "127.0.0.1", port: free_port() }, {}, ["connectError"]);
  },

  the_error_of_a_refused_connect() {
    const log = actor("error");
    const port = free_port();
    connect({ hostname: "127.0.0.1", port }, {
      connectError(_: any, error: any) {
        log(`code ${error.code}`);
        log(`syscall ${error.syscall}`);
        log(`errno ${Math.abs(error.errno) === 111 ? "111" : error.errno}`);
      },
    });
  },

  sign_and_address_of_a_refused_connect() {
    const log = actor("error");
    const port = free_port();
    connect({ hostname: "127.0.0.1", port }, {
      connectError(_: any, error: any) {
        log(error.errno > 0 ? "errno positive" : "errno negative");
        log(`address ${error.address ?? "none"}`);
        log(`port ${error.port === port ? "right" : "none"}`);
      },
    });
  },

  a_unix_path_where_nothing_is(folder) {
    connect({ unix: `${folder}/nothing` });
  },

  a_bad_descriptor() {
    connect({ fd: 987654 });
  },

  connect_error_raises() {
    connect({ hostname: "127.0.0.1", port: free_port() }, {
      connectError() {
        throw new Error("from the handler");
      },
    });
  },

  the_socket_in_connect_error() {
    const log = actor("socket");
    connect({ hostname: "127.0.0.1", port: free_port(), data: "mine" }, {
      connectError(socket: any) {
        log(`ready state ${socket.readyState}`);
        attempt(log, "write", () => socket.write("x"));
        attempt(log, "end", () => socket.end());
        log(`data ${socket.data}`);
      },
    });
  },

  wrong_options() {
    const log = actor("connect");
    const wrong = (name: string, options: any) =>
      attempt(log, name, () => void Bun.connect({ socket: { data() {} }, ...options }));
    wrong("no address", {});
    wrong("no port", { hostname: "127.0.0.1" });
    wrong("port as an object", { hostname: "127.0.0.1", port: {} });
    wrong("unix as a number", { unix: 5 });
    wrong("fd as text", { fd: "5" });
  },
});
