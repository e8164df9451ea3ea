// A failed flush is remembered: the kernel tells a lost write once only.
import type * as fs from "node:fs";
import { createRequire, syncBuiltinESMExports } from "node:module";
import { afterEach, expect, test } from "vitest";
import { createEngine, createImage, openNode } from "../../../../src/node.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { codeOf, pattern, temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();
const builtin = createRequire(import.meta.url)("node:fs") as typeof fs;
const real = builtin.fdatasync;

/** The next fdatasync fails with EIO, later ones succeed, as Linux has it. */
function failOnce(): void {
  builtin.fdatasync = ((_fd: number, callback: fs.NoParamCallback) => {
    builtin.fdatasync = real;
    syncBuiltinESMExports();
    setImmediate(() => callback(Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" })));
  }) as typeof real;
  syncBuiltinESMExports();
}

afterEach(() => {
  builtin.fdatasync = real;
  syncBuiltinESMExports();
});

test("every later flush of the open file fails, also after a change of its mode; a file opened anew flushes", async () => {
  const { files } = nodeHost();
  await files.create(path("f"), { size: 4096 });
  const file = await files.open(path("f"), { write: true });
  await file.write(pattern(512), 0);
  await file.flush();
  failOnce();
  expect(await codeOf(file.flush())).toBe("EIO");
  expect(await codeOf(file.flush())).toBe("EIO");
  await file.setWritable(false);
  await file.setWritable(true);
  await file.write(pattern(512), 0);
  expect(await codeOf(file.flush())).toBe("EIO");
  await file.close();
  const again = await files.open(path("f"), { write: true });
  await again.flush();
  await again.close();
});

test("a flush that was under way with a failed one fails, too", async () => {
  const { files } = nodeHost();
  await files.create(path("two"), { size: 4096 });
  const file = await files.open(path("two"), { write: true });
  failOnce();
  const failed = file.flush();
  expect([await codeOf(failed), await codeOf(file.flush())]).toEqual(["EIO", "EIO"]);
  await file.close();
});

test("qcow2's barriers stay failed: flush and close tell it again and again", async () => {
  const engine = createEngine();
  const file = { driver: "file", filename: path("q") } as const;
  await createImage({ driver: "qcow2", file, size: 2 ** 20 }, { engine });
  const node = await openNode({ driver: "qcow2", file }, { engine });
  await node.write(0, pattern(65_536));
  failOnce();
  expect(await codeOf(node.flush())).toBe("EIO");
  await node.write(65_536, pattern(65_536));
  expect(await codeOf(node.flush())).toBe("EIO");
  expect(await codeOf(node.flush())).toBe("EIO");
  expect(await codeOf(node.close())).toBe("EIO");
  await engine.close().catch(() => undefined);
});
