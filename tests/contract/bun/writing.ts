// What write() returns, when drain comes, and a peer that is gone. The same scenarios in Python: writing.py.

import { actor, attempt, dial, main, once } from "./harness";

const MANY = 16 * 1024 * 1024;

main({
  what_write_returns() {
    const log = actor("client");
    const bytes = new Uint8Array([97, 98, 99, 100]);
    dial(once(), {
      open: socket => {
        attempt(log, "empty", () => socket.write(""));
        attempt(log, "text", () => socket.write("h\u00e9"));
        attempt(log, "a slice", () => socket.write(bytes, 1, 2));
        attempt(log, "out of range", () => socket.write(bytes, 3, 5));
        attempt(log, "nothing", () => socket.write(null));
        attempt(log, "a number", () => socket.write(5));
        socket.shutdown();
        attempt(log, "after the end", () => socket.write("x"));
      },
    });
  },

  an_offset_without_a_length() {
    const log = actor("client");
    dial(once(), {
      open: socket => {
        attempt(log, "write", () => socket.write(new Uint8Array([97, 98, 99, 100]), 2));
        socket.shutdown();
      },
    });
  },

  drain_after_a_short_write() {
    const log = actor("client");
    dial(once(), {
      open: socket => {
        log(socket.write(new Uint8Array(MANY)) < MANY ? "short" : "whole");
        log(socket.write("more") === 0 ? "nothing more fits" : "more fits");
      },
      drain: socket => void socket.terminate(),
    });
  },

  drain_after_pause_and_resume() {
    const server = once({ data: (socket, chunk) => void socket.write(chunk) });
    dial(server, {
      open: socket => {
        socket.pause();
        socket.resume();
        socket.write("x");
      },
      data: socket => void socket.close(),
    });
  },

  drain_after_the_peers_fin() {
    let accepted: any;
    const open = (socket: any) => void (accepted = socket);
    const server = once({ open, end: socket => void socket.write("answer") }, { allowHalfOpen: true });
    dial(server, { open: socket => void socket.shutdown(), data: () => void accepted.end() });
  },

  a_large_write_to_a_reset_peer() {
    const log = actor("server");
    let accepted: any;
    const server = once({
      open: socket => void (accepted = socket),
      data: socket => void socket.write("go"),
    });
    dial(server, {
      open: socket => void socket.write("x"),
      data: socket => {
        socket.terminate();
        attempt(log, "write", () => accepted.write(new Uint8Array(MANY)));
      },
    });
  },

  bytes_written() {
    const log = actor("client");
    dial(once(), {
      open: socket => {
        socket.write("abc");
        socket.write("h\u00e9");
        socket.flush();
        log(`written ${socket.bytesWritten}`);
        socket.shutdown();
      },
      close: socket => log(`after close ${socket.bytesWritten}`),
    });
  },
});
