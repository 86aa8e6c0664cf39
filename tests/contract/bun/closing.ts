// Ending, closing, resetting, stopping: who is told what, and when. The same scenarios in Python: closing.py.

import { actor, attempt, dial, logging, main, once } from "./harness";

const MANY = 16 * 1024 * 1024;

/** Counts what the server receives and logs at its close whether it was all. */
function counting() {
  let received = 0;
  return {
    quiet: { data: (_: any, chunk: any) => void (received += chunk.length) },
    verdict: () => actor("server")(received === MANY ? "received all" : "received a part"),
  };
}

main({
  end_after_an_echo() {
    const log = actor("client");
    const server = once({ data: (socket, chunk) => socket.write(chunk) });
    dial(server, {
      open: socket => void socket.write("ping"),
      data: socket => attempt(log, "end", () => socket.end("bye")),
    });
  },

  peer_answers_in_its_end_handler() {
    const server = once({ end: socket => void socket.write("late") });
    dial(server, { open: socket => void socket.end("bye") });
  },

  end_with_more_than_the_kernel_takes() {
    const log = actor("client");
    const count = counting();
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        ...count.quiet,
        close() {
          count.verdict();
          server.stop();
        },
      },
    });
    dial(server, {
      open: socket => log(socket.end(new Uint8Array(MANY)) === MANY ? "end took all" : "end took a part"),
    });
  },

  tail_written_in_the_end_handler() {
    const log = actor("client");
    let received = 0;
    const server = once({ end: socket => void socket.write(new Uint8Array(MANY)) }, { highWaterMark: MANY });
    Bun.connect({
      hostname: "127.0.0.1",
      port: server.port,
      socket: {
        open: socket => socket.shutdown(),
        data: (_, chunk) => void (received += chunk.length),
        close: () => log(received === MANY ? "received all" : "received a part"),
      },
    });
  },

  close_after_a_write() {
    const log = actor("client");
    const server = once();
    dial(server, {
      open: socket => {
        socket.write("bye");
        attempt(log, "close", () => socket.close());
      },
    });
  },

  terminate() {
    const log = actor("client");
    const server = once({ open: socket => void socket.write("hello") });
    dial(server, { data: socket => attempt(log, "terminate", () => socket.terminate()) });
  },

  verbs_after_close() {
    const log = actor("client");
    const server = once({ open: socket => void socket.end("x") }, {}, ["end"]);
    dial(server, {
      close: socket => {
        attempt(log, "write", () => socket.write("x"));
        attempt(log, "end", () => socket.end());
        attempt(log, "close", () => socket.close());
        attempt(log, "terminate", () => socket.terminate());
        attempt(log, "shutdown", () => socket.shutdown());
        attempt(log, "pause", () => socket.pause());
      },
    });
  },

  shutdown_then_the_peer_ends() {
    const log = actor("client");
    const server = once({ end: socket => void socket.write("answer") });
    dial(server, {
      open: socket => {
        socket.shutdown();
        attempt(log, "write", () => socket.write("x"));
      },
    });
  },

  shutdown_of_the_reading_half() {
    const log = actor("client");
    let client: any;
    const server = once({
      data: socket => {
        socket.end("unheard");
        client.end();
      },
    });
    dial(server, {
      open: socket => {
        client = socket;
        socket.shutdown(true);
        attempt(log, "write", () => socket.write("heard"));
      },
    });
  },

  half_open_with_an_end_handler() {
    const server = once({ end: socket => void socket.end("answer") }, { allowHalfOpen: true });
    dial(server, { open: socket => void socket.shutdown() });
  },

  half_open_without_an_end_handler() {
    const log = actor("server");
    const kept: any[] = [];
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        open: socket => void kept.push(socket),
        data() {
          attempt(log, "write to the half-open one", () => kept[0].write("x"));
          kept.forEach(socket => socket.terminate());
          server.stop();
        },
      },
    });
    // The second connection starts after the first one's FIN has left: its bytes arrive when that FIN has been read.
    const probe = { data() {}, open: (socket: any) => void socket.write("now") };
    const open = (socket: any) => {
      socket.shutdown();
      Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: probe });
    };
    dial(server, { open }, {}, ["data", "close"]);
  },

  ready_states() {
    const log = actor("states");
    const server = once();
    dial(server, {
      open: socket => {
        log(`open ${socket.readyState}`);
        socket.shutdown();
        log(`after shutdown ${socket.readyState}`);
      },
      close: socket => log(`in close ${socket.readyState}`),
    });
  },

  addresses_after_close() {
    const log = actor("addresses");
    const server = once({ open: socket => void socket.end("x") });
    dial(server, {
      close: socket => {
        log(`remote address ${socket.remoteAddress ?? "none"}`);
        log(`remote port ${socket.remotePort === server.port ? "right" : "none"}`);
        log(`local address ${socket.localAddress ?? "none"}`);
      },
    });
  },

  stop_leaves_connections_alone() {
    const server = once({
      open: () => server.stop(),
      data: (socket, chunk) => void socket.end(chunk),
    });
    dial(server, { open: socket => void socket.write("still here") });
  },

  stop_true_closes_them() {
    const log = actor("server");
    const server = once({
      data: () => {
        server.stop(true);
        log("stop returned");
      },
    });
    dial(server, { open: socket => void socket.write("x") });
  },
});
