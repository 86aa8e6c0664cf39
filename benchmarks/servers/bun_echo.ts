// The peer `bun`: Bun.listen with one shared set of handlers, as Bun's documentation writes it.
//
// Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
// Bun keeps nothing that the kernel did not take, so the tail is kept here and sent from `drain`; the load compares every byte.
// `--mode five` writes pieces of 20 bytes; with `--sink` it gathers them in an ArrayBufferSink, as Bun's documentation advises for many small writes.
// `--mode fifty` answers with fifty pieces of 20 bytes; `--tls FOLDER` is TLS with the certificate that lies there.

import { ArrayBufferSink, type Socket } from "bun";
import { parseArgs } from "node:util";

type State = { tail: Buffer[] | null };

const PIECE = 20;
const PIECES = 50;
const { values: options } = parseArgs({
  args: Bun.argv.slice(2),
  options: {
    mode: { type: "string", default: "echo" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
    unix: { type: "string" },
    sink: { type: "boolean", default: false },
    tls: { type: "string" },
  },
});

function put(socket: Socket<State>, bytes: Uint8Array): void {
  const state = socket.data;
  if (state.tail !== null) {
    state.tail.push(Buffer.from(bytes)); // a copy: the chunk is Bun's
    return;
  }
  const taken = socket.write(bytes);
  if (taken >= 0 && taken < bytes.length) state.tail = [Buffer.from(bytes.subarray(taken))];
}

function drain(socket: Socket<State>): void {
  const waiting = socket.data.tail;
  if (waiting === null) return;
  socket.data.tail = null;
  put(socket, Buffer.concat(waiting));
}

function echo(socket: Socket<State>, chunk: Buffer): void {
  put(socket, chunk);
}

function five(socket: Socket<State>, chunk: Buffer): void {
  for (let at = 0; at < chunk.length; at += PIECE) put(socket, chunk.subarray(at, at + PIECE));
}

const sink = new ArrayBufferSink();
sink.start({ asUint8Array: true, stream: true, highWaterMark: 65536 });

function fiveGathered(socket: Socket<State>, chunk: Buffer): void {
  for (let at = 0; at < chunk.length; at += PIECE) sink.write(chunk.subarray(at, at + PIECE));
  put(socket, sink.flush() as Uint8Array);
}

function fifty(socket: Socket<State>, chunk: Buffer): void {
  const piece = chunk.subarray(0, PIECE);
  for (let i = 0; i < PIECES; i++) put(socket, piece);
}

function fiftyGathered(socket: Socket<State>, chunk: Buffer): void {
  const piece = chunk.subarray(0, PIECE);
  for (let i = 0; i < PIECES; i++) sink.write(piece);
  put(socket, sink.flush() as Uint8Array);
}

const answers = {
  echo: [echo, echo],
  five: [five, fiveGathered],
  fifty: [fifty, fiftyGathered],
};

const handlers = {
  open(socket: Socket<State>) {
    socket.data = { tail: null };
  },
  data: answers[options.mode as keyof typeof answers][options.sink ? 1 : 0],
  drain,
};

const tls =
  options.tls === undefined
    ? undefined
    : { cert: Bun.file(`${options.tls}/cert.pem`), key: Bun.file(`${options.tls}/key.pem`) };

if (options.unix !== undefined) {
  Bun.listen<State>({ unix: options.unix, socket: handlers, tls });
  console.log(`LISTENING ${options.unix}`);
} else {
  const listener = Bun.listen<State>({ hostname: options.host!, port: Number(options.port), socket: handlers, tls });
  console.log(`LISTENING ${listener.port}`);
}
