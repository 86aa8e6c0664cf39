// A server or a client of node:tls, for Node and for Bun. Its argument is JSON: {role, port?, options, ...}; what happens
// is printed, one JSON line for each event; what is said on its input are commands: send TEXT, blob SIZE, end, destroy, quit.
import tls from "node:tls";
import readline from "node:readline";
import { createHash } from "node:crypto";

const { role, port, options, echo = true } = JSON.parse(process.argv[2]);
const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
let current;
let session;

function describe(socket) {
  return {
    version: socket.getProtocol(),
    suite: socket.getCipher()?.name,
    alpn: socket.alpnProtocol || null,
    authorized: socket.authorized,
    problem: socket.authorizationError ? String(socket.authorizationError.code ?? socket.authorizationError) : null,
    peer: socket.getPeerCertificate()?.subjectaltname ?? null,
    servername: socket.servername || null,
    reused: socket.isSessionReused?.() ?? null,
  };
}

function watch(socket) {
  const digest = createHash("sha256");
  let size = 0;
  current = socket;
  socket.on("data", (chunk) => {
    digest.update(chunk);
    size += chunk.length;
    if (echo) socket.write(chunk);
    tell("data", { size, last: chunk.subarray(-32).toString("latin1") });
  });
  socket.on("end", () => tell("end", { size, digest: digest.copy().digest("hex") }));
  socket.on("session", (made) => ((session = made), tell("session")));
  socket.on("error", (error) => tell("error", { code: error.code ?? null, message: error.message }));
  socket.on("close", () => tell("close", { size }));
}

function connect(more = {}) {
  const socket = tls.connect({ port, host: "127.0.0.1", ...options, ...more }, () => tell("secure", describe(socket)));
  watch(socket);
}

const exported = () => ({
  material: current.exportKeyingMaterial(32, "EXPORTER-test", Buffer.from("context")).toString("hex"),
  finished: current.getFinished()?.toString("hex"),
  peerFinished: current.getPeerFinished()?.toString("hex"),
});

const commands = {
  send: (text) => current.write(text),
  blob: (size) => current.write(Buffer.alloc(Number(size), "0123456789abcdef")),
  end: () => current.end(),
  destroy: () => current.destroy(),
  again: () => connect({ session }),
  exported: () => tell("exported", exported()),
  quit: () => process.exit(0),
};

if (role === "server") {
  const server = tls.createServer(options, (socket) => (tell("secure", describe(socket)), watch(socket)));
  server.on("tlsClientError", (error) => tell("refused", { code: error.code ?? null, message: error.message }));
  server.listen(0, "127.0.0.1", () => tell("listening", { port: server.address().port }));
} else {
  connect();
}
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, argument] = line.split(" ");
  commands[verb](argument);
});
