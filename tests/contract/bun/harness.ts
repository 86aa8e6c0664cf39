// What the scenarios in this folder share: a log for each actor, handlers that write to it, and one JSON object
// on stdout when nothing is left to wait for. A scenario is a function that starts something and returns; the process
// ends by itself when its sockets are closed, as any Bun program does. harness.py is this file in Python.
// Run as: bun <topic>.ts <scenario> <folder for unix sockets>

import type { Socket } from "bun";

export type Log = (line: string) => void;
type Handler = (socket: Socket<any>, argument?: any) => any;
type Handlers = Record<string, Handler>;

/** Chunks above this many bytes are not logged: where a stream is cut into chunks is nobody's promise. */
const BULK = 64;
const logs: Record<string, string[]> = {};

/** The log of one actor: what happened to it, in order. */
export function actor(name: string): Log {
  const lines = (logs[name] ??= []);
  return line => void lines.push(line);
}

/** One line for a thrown thing: its class in Python's words, its code if the kernel gave it one. */
export function failure(error: any): string {
  const kind = error instanceof TypeError ? "TypeError" : error instanceof RangeError ? "ValueError" : "Error";
  const code = error?.code;
  return code && !String(code).startsWith("ERR_") ? `${kind} ${code}` : kind;
}

/** Runs `call` and logs what it gave or how it failed. */
export function attempt(log: Log, name: string, call: () => unknown): void {
  try {
    log(`${name} gave ${call() ?? "nothing"}`);
  } catch (error) {
    log(`${name} raised ${failure(error)}`);
  }
}

const lines: Record<string, (argument: any) => string> = {
  open: () => "open",
  data: chunk => `data ${new TextDecoder().decode(chunk)}`,
  drain: () => "drain",
  end: () => "end",
  close: error => (error ? `close ${error.code}` : "close"),
  error: error => `error ${error.message}`,
  timeout: () => "timeout",
  connectError: error => `connect_error ${error.code}`,
};

/** All handlers, each of which logs itself as `name` and then calls what `extra` has for it. */
export function logging(name: string, extra: Handlers = {}, without: string[] = []): any {
  const log = actor(name);
  const all: Handlers = {};
  for (const key of Object.keys(lines).filter(key => !without.includes(key))) {
    all[key] = (socket, argument) => {
      if (!(argument?.length > BULK)) log(lines[key](argument));
      return extra[key]?.(socket, argument);
    };
  }
  return all;
}

/** A listener on a free loopback port that stops when its first connection has closed. */
export function once(extra: Handlers = {}, options: object = {}, without: string[] = []): any {
  const close: Handler = (socket, error) => {
    extra.close?.(socket, error);
    listener.stop();
  };
  const socket = logging("server", { ...extra, close }, without);
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket, ...options });
  return listener;
}

/** A logging client of that listener. */
export function dial(listener: any, extra: Handlers = {}, options: object = {}, without: string[] = []): void {
  const socket = logging("client", extra, without);
  Bun.connect({ hostname: "127.0.0.1", port: listener.port, socket, ...options }).catch(() => {});
}

export function main(scenarios: Record<string, (folder: string) => unknown>): void {
  const [name, folder] = process.argv.slice(2);
  process.on("exit", () => process.stdout.write(JSON.stringify(logs) + "\n"));
  scenarios[name](folder);
}
