// A server that goes away in the middle of its handshake: what could not be read or sent is named, in QEMU's words.
import { createServer, type Server } from "node:net";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { Session } from "../../../../../src/drivers/protocol/nbd/session.ts";
import { nodeHost } from "../../../../../src/platform/node/host.ts";
import { message } from "../../../../../src/wire/nbd/bytes.ts";
import { INIT_MAGIC, OLDSTYLE_MAGIC } from "../../../../../src/wire/nbd/constants.ts";
import { encodeExportNameReply, encodeGreeting } from "../../../../../src/wire/nbd/handshake.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-lost-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let server: Server | undefined;
afterEach(() => new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve())));

const options = {
  context: "base:allocation",
  isContextNamed: false,
  tls: undefined,
  reconnectDelayMs: 0,
  openTimeoutMs: 0,
};
let last = 0;
/** Connects to a server that sends these bytes and ends its direction, though it reads on; tells why that fails. */
async function whyNot(bytes: Uint8Array, exportName: string): Promise<string> {
  const path = join(folder, `s${(last += 1)}`);
  server = createServer((socket) => {
    socket.on("error", () => undefined).resume();
    socket.end(bytes);
  });
  await new Promise<void>((resolve) => server!.listen(path, resolve));
  const opening = Session.open(nodeHost(), { ...options, exportName, address: { type: "unix", path } });
  return opening.then(
    () => "it was opened",
    (error: Error) => error.message,
  );
}

const old = message([64, INIT_MAGIC], [64, OLDSTYLE_MAGIC], [64, 512], [32, 1], new Uint8Array(124));
// Neither of our time nor without padding.
const plain = message(encodeGreeting(0), encodeExportNameReply({ size: 512, flags: 1 }, false));
const fixed = message(encodeGreeting(1), new Uint8Array(19));

test.each([
  [0, "initial magic"],
  [7, "initial magic"],
  [8, "server magic"],
  [16, "export length"],
  [24, "export flags"],
  [28, "reserved block"],
])("an old server after %i bytes: %s", async (bytes, what) => {
  const why = await whyNot(old.subarray(0, bytes), "");
  expect(why).toBe(`Failed to read ${what}: Unexpected end-of-file before all data were read`);
});

test.each([
  [16, "server flags"],
  [18, "export length"],
  [26, "export flags"],
  [28, "reserved block"],
])("a new one after %i bytes: %s", async (bytes, what) => {
  const why = await whyNot(plain.subarray(0, bytes), "x");
  expect(why).toBe(`Failed to read ${what}: Unexpected end-of-file before all data were read`);
});

test.each([18, 37])("one of our time after %i bytes: the reply to an option", async (bytes) => {
  const why = await whyNot(fixed.subarray(0, bytes), "x");
  expect(why).toBe("Failed to read option reply: Unexpected end-of-file before all data were read");
});

test("one that has gone is told apart from one that says nothing more", async () => {
  const path = join(folder, "gone");
  server = createServer((socket) => socket.end(fixed.subarray(0, 18), () => socket.destroy()));
  await new Promise<void>((resolve) => server!.listen(path, resolve));
  await expect(
    Session.open(nodeHost(), { ...options, exportName: "x", address: { type: "unix", path } }),
  ).rejects.toThrow(
    /^Failed to (send (clientflags field|option request header): Unable to write to socket|read option reply: )/,
  );
});
