// A server or a client of Bun.listen and Bun.connect. Its argument, its events and its commands: as tls_peer.mjs.
import readline from "node:readline";

const { role, port, options, echo = true } = JSON.parse(process.argv[2]);
if (options.ALPNProtocols) options.ALPNProtocols = options.ALPNProtocols.map((name: string) => String.fromCharCode(name.length) + name).join("");
const tell = (event: string, more = {}) => console.log(JSON.stringify({ event, ...more }));
let current: any;

const socket = {
  open(s: any) {
    s.data = { size: 0, left: null, digest: new Bun.CryptoHasher("sha256") };
    current = s;
    tell("open");
  },
  handshake(s: any, success: boolean, error: any) {
    tell("secure", {
      success,
      problem: error ? error.code : null,
      authorized: s.authorized,
      version: s.getTLSVersion?.() ?? null,
      suite: s.getCipher?.()?.name ?? null,
      alpn: s.alpnProtocol || null,
      peer: s.getPeerCertificate?.()?.subjectaltname ?? null,
    });
  },
  data(s: any, chunk: Buffer) {
    s.data.digest.update(chunk);
    s.data.size += chunk.length;
    if (echo) send(s, Buffer.from(chunk));
    tell("data", { size: s.data.size, last: chunk.subarray(-32).toString("latin1") });
  },
  drain: (s: any) => send(s, Buffer.alloc(0)),
  end: (s: any) => tell("end", { size: s.data.size, digest: s.data.digest.digest("hex") }),
  close: (s: any, error: any) => tell("close", { size: s.data?.size ?? 0, problem: error ? error.code ?? error.message : null }),
  error: (s: any, error: any) => tell("error", { code: error.code ?? null, message: error.message }),
  connectError: (s: any, error: any) => tell("error", { code: error.code ?? null, message: error.message }),
};

// Bun takes what the kernel takes: the rest is kept for `drain`.
function send(s: any, chunk: Buffer) {
  const all = s.data.left ? Buffer.concat([s.data.left, chunk]) : chunk;
  const wrote = Math.max(s.write(all), 0);
  s.data.left = wrote < all.length ? all.subarray(wrote) : null;
}

const commands: Record<string, (argument: string) => unknown> = {
  send: (text) => send(current, Buffer.from(text)),
  blob: (size) => send(current, Buffer.alloc(Number(size), "0123456789abcdef")),
  end: () => current.end(),
  destroy: () => current.terminate(),
  quit: () => process.exit(0),
};

if (role === "server") {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, tls: options, socket });
  tell("listening", { port: server.port });
} else {
  Bun.connect({ hostname: "127.0.0.1", port, tls: options, socket }).catch(() => {});
}
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, argument] = line.split(" ");
  commands[verb](argument);
});
