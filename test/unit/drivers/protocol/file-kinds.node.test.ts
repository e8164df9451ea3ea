// What is no regular file is not even opened, as a device may do something when it is; and what counts is what was opened,
// whatever its name led to a moment before.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { makeEngine } from "../../../../src/api/engine.ts";
import type { Host } from "../../../../src/base/host.ts";
import { fileGate } from "../../../../src/block/model/gate.ts";
import { portableDrivers } from "../../../../src/drivers/index.ts";
import { file } from "../../../../src/drivers/protocol/file.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";

const directory = mkdtempSync(join(tmpdir(), "blockwright-kinds-"));
const plain = join(directory, "plain");
writeFileSync(plain, new Uint8Array(4096));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** An engine that tells what it opens; `swap` is opened in the place of `plain`. */
function engineWith(swap?: string) {
  const host = nodeHost();
  const opened: string[] = [];
  const open: Host["files"]["open"] = (path, ...how) => {
    opened.push(path);
    return host.files.open(path === plain ? (swap ?? path) : path, ...how);
  };
  const files = new Proxy(host.files, {
    get: (target, key) => {
      const member = Reflect.get(target, key) as unknown;
      if (key === "open") return open;
      return typeof member === "function" ? (member.bind(target) as unknown) : member;
    },
  });
  const drivers = [...portableDrivers, file];
  const own: Host = Object.assign(Object.create(host) as Host, { files });
  const engine = makeEngine({ host: own, drivers }, { arenaBytes: 1 << 24, gate: fileGate("all", host) });
  return { engine, opened };
}

test("a device is refused by 'file' without being opened, under the widest gate too", async () => {
  const { engine, opened } = engineWith();
  const named = { driver: "file", "node-name": "n", filename: "/dev/zero" };
  await expect(engine.graph.add(named)).rejects.toThrow("requires '/dev/zero' to be");
  expect(opened).toEqual([]);
  await engine.close();
});

test("a file that becomes a device between the look and the opening is refused", async () => {
  const { engine, opened } = engineWith("/dev/zero");
  const named = { driver: "file", "node-name": "n", filename: plain };
  await expect(engine.graph.add(named)).rejects.toThrow(`requires '${plain}' to be`);
  expect([opened, engine.graph.nodes]).toEqual([[plain], []]);
  await engine.close();
});
