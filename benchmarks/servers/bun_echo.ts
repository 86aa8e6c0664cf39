// The peer `bun`: Bun.listen with one shared set of handlers, as Bun's documentation writes it.
//
// Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
// Bun keeps nothing that the kernel did not take, so the tail is kept here and sent from `drain`; the load compares every byte.
// `--mode five` writes pieces of 20 bytes; with `--sink` it gathers them in an ArrayBufferSink, as Bun's documentation advises for many small writes.
// `upload`, `download`, `fanout` and `http` are those of README.md: a download goes on in `drain` from the block itself, a fan-out leaves out the peers that it cannot reach.
// `--mode fifty` answers with fifty pieces of 20 bytes; `--tls FOLDER` is TLS with the certificate in it.

import { ArrayBufferSink, type Socket } from "bun";
import { parseArgs } from "node:util";

type State = { tail: Buffer[] | null; unsent: number; count: number }; // count: bytes of a block that came, or went

const PIECE = 20;
const PIECES = 50;
const BLOCK = Buffer.alloc(1 << 20, "!");
const UNSENT_AT_MOST = 1 << 16;
const HTTP_END = Buffer.from("\r\n\r\n");
const HTTP_REPLY = Buffer.from("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!");
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
    state.unsent += bytes.length;
    return;
  }
  const taken = socket.write(bytes);
  if (taken >= 0 && taken < bytes.length) {
    state.tail = [Buffer.from(bytes.subarray(taken))];
    state.unsent = bytes.length - taken;
  }
}

function drain(socket: Socket<State>): void {
  const waiting = socket.data.tail;
  if (waiting === null) return;
  socket.data.tail = null;
  socket.data.unsent = 0;
  put(socket, Buffer.concat(waiting));
}

function echo(socket: Socket<State>, chunk: Buffer): void {
  put(socket, chunk);
}

function five(socket: Socket<State>, chunk: Buffer): void {
  for (let at = 0; at < chunk.length; at += PIECE) put(socket, chunk.subarray(at, at + PIECE));
}

function upload(socket: Socket<State>, chunk: Buffer): void {
  const state = socket.data;
  state.count += chunk.length;
  for (; state.count >= BLOCK.length; state.count -= BLOCK.length) put(socket, BLOCK.subarray(0, 1));
}

function download(socket: Socket<State>, _: Buffer): void {
  socket.data.count = Math.max(0, socket.write(BLOCK));
}

function downloadOn(socket: Socket<State>): void {
  const state = socket.data;
  if (state.count < BLOCK.length) state.count += Math.max(0, socket.write(BLOCK.subarray(state.count)));
}

const everybody = new Set<Socket<State>>();

function fanout(socket: Socket<State>, chunk: Buffer): void {
  for (const other of everybody)
    if (other !== socket && other.data.unsent + chunk.length <= UNSENT_AT_MOST) put(other, chunk);
}

function http(socket: Socket<State>, chunk: Buffer): void {
  for (let at = chunk.indexOf(HTTP_END); at >= 0; at = chunk.indexOf(HTTP_END, at + 4)) put(socket, HTTP_REPLY);
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
  upload: [upload, upload],
  download: [download, download],
  fanout: [fanout, fanout],
  http: [http, http],
};

const handlers = {
  open(socket: Socket<State>) {
    socket.data = { tail: null, unsent: 0, count: 0 };
    if (options.mode === "fanout") everybody.add(socket);
  },
  ...(options.mode === "fanout" && { close: (socket: Socket<State>) => void everybody.delete(socket) }),
  data: answers[options.mode as keyof typeof answers][options.sink ? 1 : 0],
  drain: options.mode === "download" ? downloadOn : drain,
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
