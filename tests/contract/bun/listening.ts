// Addresses, failures of listen, unix files, and what stop does. The same scenarios in Python: listening.py.

import { existsSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { actor, attempt, failure, main } from "./harness";

const quiet = { data() {} };
const tcp = { hostname: "127.0.0.1", port: 0, socket: quiet };

function refusal(options: any): string {
  try {
    Bun.listen({ socket: quiet, ...options }).stop(true);
    return "a listener";
  } catch (error: any) {
    const { errno, syscall, address, port } = error;
    return `${failure(error)} errno ${errno} syscall ${syscall} address ${address} port ${port ?? "none"}`;
  }
}

const wrong = (name: string, options: any) =>
  attempt(actor("listen"), name, () => void Bun.listen({ socket: quiet, ...options }).stop(true));

main({
  an_address_in_use() {
    const first = Bun.listen(tcp);
    const line = refusal({ hostname: "127.0.0.1", port: first.port });
    actor("listen")(line.replace(String(first.port), "that"));
    first.stop();
  },

  an_address_not_ours() {
    actor("listen")(refusal({ hostname: "192.0.2.1", port: 0 }));
  },

  a_missing_folder(folder) {
    actor("listen")(refusal({ unix: `${folder}/missing/socket` }).replace(folder, ""));
  },

  a_path_that_exists(folder) {
    writeFileSync(`${folder}/taken`, "precious");
    actor("listen")(refusal({ unix: `${folder}/taken` }).replace(folder, ""));
    actor("listen")(existsSync(`${folder}/taken`) ? "the file is there" : "the file is gone");
  },

  a_path_with_an_interior_nul(folder) {
    wrong("listen", { unix: `${folder}/a\0b` });
  },

  a_path_past_the_limit(folder) {
    wrong("listen", { unix: `${folder}/${"x".repeat(200)}` });
  },

  an_address_in_brackets() {
    wrong("listen", { hostname: "[::1]", port: 0 });
  },

  two_kinds_of_address(folder) {
    wrong("listen", { hostname: "127.0.0.1", port: 0, unix: `${folder}/socket` });
  },

  a_port_as_text() {
    wrong("listen", { hostname: "127.0.0.1", port: "0" });
  },

  wrong_options() {
    wrong("no address", {});
    wrong("no port", { hostname: "127.0.0.1" });
    wrong("port out of range", { hostname: "127.0.0.1", port: 70000 });
    wrong("port below zero", { hostname: "127.0.0.1", port: -1 });
    wrong("exclusive as a number", { ...tcp, exclusive: 1 });
    wrong("reusePort as null", { ...tcp, reusePort: null });
    wrong("allowHalfOpen as text", { ...tcp, allowHalfOpen: "no" });
    wrong("no handlers", { hostname: "127.0.0.1", port: 0, socket: undefined });
  },

  an_unknown_option() {
    wrong("listen", { ...tcp, hostnam: "x" });
  },

  stop_removes_the_file(folder) {
    const listener = Bun.listen({ unix: `${folder}/socket`, socket: quiet });
    actor("folder")(`before ${readdirSync(folder)}`);
    listener.stop();
    actor("folder")(`after ${readdirSync(folder)}`);
  },

  stop_when_the_path_is_anothers(folder) {
    const first = Bun.listen({ unix: `${folder}/socket`, socket: quiet });
    renameSync(`${folder}/socket`, `${folder}/moved`);
    const second = Bun.listen({ unix: `${folder}/socket`, socket: quiet });
    first.stop();
    actor("folder")(existsSync(`${folder}/socket`) ? "the other's file is there" : "the other's file is gone");
    second.stop();
  },

  the_file_at_exit(folder) {
    Bun.listen({ unix: `${folder}/socket`, socket: quiet }).unref();
  },

  properties_after_stop() {
    const listener = Bun.listen(tcp);
    const port = listener.port;
    listener.stop();
    actor("listener")(`port ${listener.port === port ? "kept" : listener.port}`);
    actor("listener")(`hostname ${listener.hostname}`);
    actor("listener")(`fd ${(listener as any).fd}`);
    attempt(actor("listener"), "stop again", () => listener.stop());
  },
});
