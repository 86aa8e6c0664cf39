// The peer `node`: net.createServer (tls.createServer with `--tls FOLDER`), as Node's documentation writes it.
//
// Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended.
// Node's sockets keep what the kernel did not take, without a bound; here no question makes that more than a block of a download.

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { parseArgs } from "node:util";

const PIECE = 20;
const PIECES = 50;
const BACKLOG = 4096;
const BLOCK = Buffer.alloc(1 << 20, "!");
const UNSENT_AT_MOST = 1 << 16;
const HTTP_END = Buffer.from("\r\n\r\n");
const HTTP_REPLY = Buffer.from("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!");

const { values: options } = parseArgs({
  options: {
    mode: { type: "string", default: "echo" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
    unix: { type: "string" },
    tls: { type: "string" },
  },
});

const everybody = new Set();

function upload(socket, chunk) {
  socket.received = (socket.received ?? 0) + chunk.length;
  for (; socket.received >= BLOCK.length; socket.received -= BLOCK.length) socket.write(BLOCK.subarray(0, 1));
}

function fanout(socket, chunk) {
  for (const other of everybody)
    if (other !== socket && other.writableLength + chunk.length <= UNSENT_AT_MOST) other.write(chunk);
}

function http(socket, chunk) {
  for (let at = chunk.indexOf(HTTP_END); at >= 0; at = chunk.indexOf(HTTP_END, at + 4)) socket.write(HTTP_REPLY);
}

const answers = {
  echo: (socket, chunk) => socket.write(chunk),
  five: (socket, chunk) => {
    for (let at = 0; at < chunk.length; at += PIECE) socket.write(chunk.subarray(at, at + PIECE));
  },
  fifty: (socket, chunk) => {
    for (let i = 0; i < PIECES; i++) socket.write(chunk.subarray(0, PIECE));
  },
  upload,
  download: (socket, chunk) => {
    for (let i = 0; i < chunk.length; i++) socket.write(BLOCK);
  },
  fanout,
  http,
};
const answer = answers[options.mode];

function serve(socket) {
  socket.setNoDelay(true);
  socket.on("data", (chunk) => answer(socket, chunk));
  if (options.mode === "fanout") {
    everybody.add(socket);
    socket.on("close", () => everybody.delete(socket));
  }
  socket.on("error", () => {});
}

const server = options.tls
  ? createTlsServer({ cert: readFileSync(`${options.tls}/cert.pem`), key: readFileSync(`${options.tls}/key.pem`) }, serve)
  : createServer(serve);
const where = options.unix ? { path: options.unix } : { host: options.host, port: Number(options.port) };
server.listen({ ...where, backlog: BACKLOG }, () => console.log(`LISTENING ${options.unix ?? server.address().port}`));
