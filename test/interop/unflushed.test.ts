/**
 * A program that ends by itself while a disk is open that it has written to is told so; one that flushes, closes or says that it knows
 * is not.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { root } from "../support/root.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-unflushed-"));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a program that has written to a new image; what it says on stderr. */
function stderrOf(end: string, options = "{}"): string {
  const program = join(folder, "program.mjs");
  writeFileSync(
    program,
    `import { createEngine, createImage, file, memory, openNode, qcow2 } from ${JSON.stringify(join(root, "build/node.js"))};
const engine = createEngine(${options});
await createImage({ ...qcow2(file("image.qcow2")), size: 2 ** 20 }, { engine, overwrite: true });
const disk = await openNode("image.qcow2", { engine });
const scratch = await openNode(memory(2 ** 20), { engine });
await scratch.write(0, new Uint8Array(512));
await disk.write(0, new Uint8Array(65536).fill(1));
${end}
`,
  );
  const { status, stderr } = spawnSync(process.execPath, [program], { cwd: folder, encoding: "utf8" });
  expect(status).toBe(0);
  return stderr;
}

it.each(["", "process.exit(0);", "await disk.flush(); await disk.write(0, new Uint8Array(512));"])(
  "warns of what is lost: %s",
  (end) => {
    expect(stderrOf(end)).toBe(
      "blockwright: the process ends while 'image.qcow2' is open, and what was written since its last flush may be lost: " +
        "await close() (or `await using`) before\n",
    );
  },
);

it.each(["await disk.flush();", "await disk.close();", "await engine.close();"])(
  "is silent after %s",
  (end) => {
    expect(stderrOf(end)).toBe("");
  },
);

it("is silent where that is asked for", () => {
  expect(stderrOf("", "{ warnUnflushed: false }")).toBe("");
});
