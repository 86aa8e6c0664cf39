// The peer `bun-http`: Bun.serve, an HTTP server with everything, answering what the tiny ones answer.
//
// Promises: the protocol of this folder (README.md, "A peer is a file"), for `http`: prints `LISTENING <port>` when ready and serves until it is ended.

import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  args: Bun.argv.slice(2),
  options: { mode: { type: "string" }, host: { type: "string" }, port: { type: "string" } },
});
const server = Bun.serve({
  hostname: options.host,
  port: Number(options.port),
  fetch: () => new Response("Hello, World!", { headers: { "Content-Type": "text/plain" } }),
});
console.log(`LISTENING ${server.port}`);
