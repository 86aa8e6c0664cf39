// Pausing, and what is told at resume. The same scenarios in Python: reading.py.

import { actor, main } from "./harness";

/** Logs of one paused connection; a second one, started after the first has said its all, resumes it. */
function resumed_later(say: (client: any) => void): void {
  const log = actor("server");
  let first: any;
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        if (first) return;
        first = socket;
        socket.pause();
      },
      data(socket, chunk) {
        if (socket === first) return log(`data ${chunk}`);
        log("resumed");
        first.resume();
        socket.end();
        server.stop();
      },
      end(socket) {
        if (socket === first) log("end");
      },
      close(socket, error: any) {
        if (socket === first) log(error ? `close ${error.code}` : "close");
      },
    },
  });
  const dial = (open: (socket: any) => void) =>
    Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { open, data() {} } });
  dial(socket => {
    say(socket);
    dial(probe => void probe.write("now"));
  });
}

main({
  paused_while_the_peer_ends: () =>
    resumed_later(socket => {
      socket.write("bye");
      socket.shutdown();
    }),

  paused_while_the_peer_resets: () =>
    resumed_later(socket => {
      socket.write("bye");
      socket.flush();
      socket.terminate();
    }),
});
