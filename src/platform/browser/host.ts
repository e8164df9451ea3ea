/**
 * The Host of a browser page or worker: clock, randomness, codecs, HTTP, databases and, in dedicated workers, private storage. It
 * has no files, and of sockets WebSockets alone (sockets.ts), which the driver nbd brings.
 */
import { BlockError } from "../../base/errors.ts";
import type { Clock, Host, HostFiles } from "../../base/host.ts";
import { wallClock } from "../../base/wall-clock.ts";
import { streamCodecs } from "./codecs.ts";
import { browserDatabases } from "./databases.ts";
import { browserHttp } from "./http.ts";
import { privateStorage } from "./private-storage.ts";
import { roomBytes } from "./storage.ts";

/** The longest delay that setTimeout takes, ms. */
const MAX_DELAY_MS = 2 ** 31 - 1;

const clock: Clock = {
  nowMs: () => performance.now(),
  wallMicroseconds: wallClock(
    () => Date.now(),
    () => performance.now(),
  ),
  timer(delayMs, callback) {
    const due = performance.now() + delayMs;
    let timeout: ReturnType<typeof setTimeout>;
    const arm = (): void => {
      const left = Math.max(0, due - performance.now());
      timeout = setTimeout(left > MAX_DELAY_MS ? arm : callback, Math.min(left, MAX_DELAY_MS));
    };
    arm();
    return () => clearTimeout(timeout);
  },
  // Timers are slowed down to 4 ms after a few rounds, and to 1 s in hidden tabs; messages are not.
  turn() {
    return new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.addEventListener("message", () => {
        port1.close();
        resolve();
      });
      port1.start();
      port2.postMessage(undefined);
    });
  },
};

/** An integer 0 <= n < limit, limit <= 2^32; not for cryptography. */
export function randomBelow(limit: number): number {
  const [word = 0] = crypto.getRandomValues(new Uint32Array(1));
  return Math.floor((word / 2 ** 32) * limit);
}

function noFiles(op: string): () => Promise<never> {
  return () => Promise.reject(new BlockError({ code: "ENOTSUP", op, message: "this platform has no files" }));
}

const files: HostFiles = {
  open: noFiles("open"),
  create: noFiles("create"),
  info: noFiles("stat"),
  realPath: noFiles("realpath"),
  remove: noFiles("remove"),
  resolve: (base, path) => (path.startsWith("/") ? path : base.slice(0, base.lastIndexOf("/") + 1) + path),
};

/** A Host for this page or worker, without cryptography and databases; cheap, holds nothing open. */
export function plainBrowserHost(): Host {
  const storage = privateStorage();
  return {
    clock,
    random: {
      below: randomBelow,
    },
    files,
    // eslint-disable-next-line no-console
    diagnostics: { warn: (message, code) => console.warn(`[${code}] ${message}`) },
    codecs: streamCodecs,
    http: browserHttp(),
    ...(storage ? { privateStorage: storage } : {}),
    roomBytes,
  };
}

/** A Host for this page or worker, without cryptography; cheap, holds nothing open. */
export function guestHost(): Host {
  const databases = browserDatabases();
  return { ...plainBrowserHost(), ...(databases ? { databases } : {}) };
}

/** A Host for this page or worker; cheap, holds nothing open. */
export function browserHost(): Host {
  return {
    ...guestHost(),
    // Chunks of their own, which only those load who ask what there is, or open an encrypted image.
    storedDisks: async () => (await import("./stored.ts")).storedDisks(),
    crypto: async () => (await import("./crypto.ts")).browserCrypto,
  };
}
