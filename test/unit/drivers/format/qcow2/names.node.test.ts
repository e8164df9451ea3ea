// Names in an image that are no UTF-8 survive the header's updates byte by byte.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import {
  addBitmap,
  amend,
  createImage,
  createSnapshot,
  openNode,
  snapshots,
} from "../../../../../src/node.ts";

const directory = mkdtempSync(join(tmpdir(), "blockwright-names-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("backing, bitmap and snapshot names stay as they are", async () => {
  const file = { driver: "file", filename: join(directory, "a.qcow2") } as const;
  await createImage({
    driver: "qcow2",
    file,
    size: 1 << 20,
    "backing-file": "base-XX",
    "backing-fmt": "raw",
  });
  const spec = { driver: "qcow2", file, backing: null } as const;
  {
    await using disk = await openNode(spec);
    addBitmap(disk, "map-XX", { persistent: true });
    await createSnapshot(disk, "snap-XX");
  }
  const image = readFileSync(file.filename);
  const odd = (name: string): Buffer => Buffer.from(name.replace("XX", "\xe9\xff"), "latin1");
  for (const name of ["base-XX", "map-XX", "snap-XX"]) odd(name).copy(image, image.indexOf(name));
  writeFileSync(file.filename, image);
  {
    await using disk = await openNode(spec);
    await amend(disk, { "lazy-refcounts": true });
    addBitmap(disk, "another", { persistent: true });
    await createSnapshot(disk, "another");
    expect(snapshots(disk).map(({ name }) => name)).toEqual(["snap-\udce9\udcff", "another"]);
  }
  const after = readFileSync(file.filename);
  for (const name of ["base-XX", "map-XX", "snap-XX"]) expect(after.includes(odd(name)), name).toBe(true);
  expect(after.includes("\ufffd")).toBe(false);
});

test("a data file's name stays as it is, though no such file can be opened", async () => {
  const file = { driver: "file", filename: join(directory, "b.qcow2") } as const;
  const data = { driver: "file", filename: join(directory, "data-XX") } as const;
  writeFileSync(data.filename, "");
  await createImage({ driver: "qcow2", file, "data-file": data, size: 1 << 20 });
  const image = readFileSync(file.filename);
  const odd = Buffer.from("data-\xe9\xff", "latin1");
  odd.copy(image, image.indexOf("data-XX"));
  writeFileSync(file.filename, image);
  {
    await using disk = await openNode({ driver: "qcow2", file, "data-file": data });
    await amend(disk, { "lazy-refcounts": true });
  }
  const after = readFileSync(file.filename);
  expect(after.includes(odd)).toBe(true);
  expect(after.includes("\ufffd")).toBe(false);
});
