// Exceptions, reload, data, and what is read from the handlers when. The same scenarios in Python: handlers.py.

import { actor, attempt, dial, logging, main, once } from "./harness";

const boom = (text: string) => () => {
  throw new Error(text);
};

/** What reaches nobody: Bun's uncaught exceptions, our sys.unraisablehook. */
function unhandled(): void {
  const log = actor("unhandled");
  process.on("uncaughtException", error => log(error.message));
}

/** Two connections to one listener, named by what they send first; `then` gets both once both have spoken. */
function pair(then: (one: any, two: any, server: any) => void, handlers: object = {}, data?: object): void {
  const named: Record<string, any> = {};
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    data,
    socket: {
      data(socket: any, chunk) {
        named[String(chunk)] = socket;
        if (named.one && named.two) then(named.one, named.two, server);
      },
      ...handlers,
    },
  });
  for (const name of ["one", "two"]) {
    const open = (socket: any) => void socket.write(name);
    Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { open, data() {} } });
  }
}

main({
  data_raises() {
    const server = once({ data: boom("in data"), error: socket => void socket.end("sorry") });
    dial(server, { open: socket => void socket.write("x") }, {}, ["end"]);
  },

  open_raises() {
    const server = once({ open: boom("in open") });
    dial(server);
  },

  open_raises_on_a_client() {
    const server = once();
    dial(server, { open: boom("in open") });
  },

  close_raises() {
    const server = once({ open: socket => void socket.end("x") });
    dial(server, { close: boom("in close") }, {}, ["end"]);
  },

  data_raises_without_an_error_handler() {
    const server = once({ data: boom("in data") }, {}, ["error"]);
    dial(server, { open: socket => void socket.end("x") }, {}, ["end"]);
  },

  error_raises() {
    unhandled();
    const server = once({ data: boom("in data"), error: boom("in error") });
    dial(server, { open: socket => void socket.end("x") }, {}, ["end"]);
  },

  reload_of_the_listener() {
    const log = actor("server");
    const reloaded = (name: string) => ({
      data(socket: any, chunk: any) {
        log(`${name} ${chunk}`);
        socket.write(chunk);
      },
      close: () => server.stop(),
    });
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: reloaded("old") });
    let turn = 0;
    dial(server, {
      open: socket => void socket.write("a"),
      data: socket => {
        if (turn++) return void socket.close();
        server.reload({ socket: reloaded("new") });
        socket.write("b");
      },
    });
  },

  reload_forgets_what_it_does_not_name() {
    const server = once({
      open: () => server.reload({ socket: { data() {}, close: () => server.stop() } }),
    });
    dial(server, { open: socket => void socket.end("x") }, {}, ["end"]);
  },

  reload_of_one_accepted_socket() {
    let chosen: any;
    const closed = (line: string) => ({ close: (socket: any) => actor(socket === chosen ? "chosen" : "sibling")(line) });
    pair((one, two, server) => {
      server.stop();
      chosen = one;
      one.reload({ socket: { data() {}, ...closed("reloaded") } });
      one.terminate();
      two.terminate();
    }, closed("as before"));
  },

  reload_with_bare_handlers() {
    const log = actor("server");
    const server = once({
      open: socket => {
        attempt(log, "socket.reload", () => socket.reload({ data() {} }));
        socket.end();
      },
    });
    dial(server, {}, {}, ["end"]);
  },

  a_bad_reload() {
    const log = actor("server");
    const server = once({
      open: socket => {
        attempt(log, "reload", () => server.reload({ socket: { open() {} } }));
        socket.write("x");
      },
    });
    dial(server, { data: socket => void socket.end("still the same") }, {}, ["end"]);
  },

  handlers_are_read_once() {
    const handlers = logging("server", { data: socket => void socket.end(), close: () => server.stop() });
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: handlers });
    handlers.data = () => actor("server")("the changed one");
    dial(server, { open: socket => void socket.write("x") }, {}, ["end"]);
  },

  data_is_shared() {
    const log = actor("server");
    const shared = { name: "shared" };
    pair((one, two, server) => {
      server.stop();
      log(one.data === shared && two.data === shared ? "the same object" : "copies");
      one.data = { name: "own" };
      log(`${one.data.name}, ${two.data.name}`);
      one.terminate();
      two.terminate();
    }, {}, shared);
  },

  wrong_handlers() {
    const log = actor("listen");
    const listen = (socket: any) => void Bun.listen({ hostname: "127.0.0.1", port: 0, socket }).stop();
    attempt(log, "nothing", () => listen(null));
    attempt(log, "no data, no drain", () => listen({ open() {} }));
    attempt(log, "not callable", () => listen({ data: 5 }));
    attempt(log, "absent by null", () => listen({ data() {}, open: null }));
    attempt(log, "wrong binaryType", () => listen({ data() {}, binaryType: "string" }));
  },

  an_unknown_handler() {
    const log = actor("listen");
    const socket: any = { data() {}, onData() {} };
    attempt(log, "listen", () => void Bun.listen({ hostname: "127.0.0.1", port: 0, socket }).stop());
  },

  a_timeout() {
    const log = actor("server");
    const server = once({
      open: socket => socket.timeout(1),
      timeout: socket => attempt(log, "write", () => socket.write("still open")),
    });
    dial(server, { data: socket => void socket.end() }, {}, ["end"]);
  },
});

