// The peer `node-http`: Node's own HTTP server, answering what the tiny ones answer.
//
// Promises: the protocol of this folder (README.md, "A peer is a file"), for `http`: prints `LISTENING <port>` when ready and serves until it is ended.

import { createServer } from "node:http";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: { mode: { type: "string" }, host: { type: "string" }, port: { type: "string" } },
});
const server = createServer((_, reply) => {
  reply.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 13 });
  reply.end("Hello, World!");
});
server.listen({ host: options.host, port: Number(options.port), backlog: 4096 }, () =>
  console.log(`LISTENING ${server.address().port}`),
);
