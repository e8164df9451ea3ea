// LUKS1 volumes whose header lies elsewhere, as QEMU has them since 9.0: cryptsetup makes and opens the same, and joined with
// its header a payload is a volume for qemu-img 7.2. Over --compat the daemon takes them from 10.1 on.
import { open, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { amend } from "../../src/block/graph/amend.ts";
import { createImage, type Engine, file, luks, openNode } from "../../src/node.ts";
import { withDaemon } from "../support/daemon.ts";
import { runVerb } from "../support/verb-client.ts";
import { engineWithSecrets, ITER_TIME_MS, noise, objects, secrets } from "./support/encrypted.ts";
import { inDirectory, must, tool } from "./support/qcow2.ts";

const SIZE = 300 * 1024;
/** Of a header with its key slots for aes-256 and xts. */
const HEADER = 2_068_480;
const SECTOR = 512;
const PAYLOAD_AT = 104;

const options = { "key-secret": "s0", "iter-time": ITER_TIME_MS } as const;

function withEngine(body: (engine: Engine, path: (name: string) => string) => Promise<void>): Promise<void> {
  return inDirectory(async (directory) => {
    await using engine = engineWithSecrets();
    await body(engine, (name) => join(directory, name));
  });
}

/** A volume in two files, as it is made. */
const parts = (path: (name: string) => string) =>
  ({ driver: "luks", file: file(path("disk")), header: file(path("header")), size: SIZE }) as const;

const spec = (path: (name: string) => string) =>
  luks(file(path("disk")), { "key-secret": "s0", header: file(path("header")) });

async function opensWith(
  path: (name: string) => string,
  secret: keyof typeof secrets,
  ...more: string[]
): Promise<number> {
  await writeFile(path("key"), secrets[secret]);
  const how = ["open", "--test-passphrase", "--key-file", path("key"), "--header", path("header"), ...more];
  return (await tool("cryptsetup", ...how, path("disk"))).code ?? -1;
}

describe("a volume of ours", () => {
  test("is one for cryptsetup, and joined with its header for qemu-img", () =>
    withEngine(async (engine, path) => {
      await createImage({ ...parts(path), ...options }, { engine });
      expect((await stat(path("header"))).size).toBe(HEADER);
      expect((await stat(path("disk"))).size).toBe(SIZE);
      const disk = noise(SIZE, 5);
      {
        await using node = await openNode(spec(path), { engine });
        expect(node.length).toBe(SIZE);
        await node.write(0, disk);
        expect((await node.info())["format-specific"]).toMatchObject({
          data: { "detached-header": true, "payload-offset": 0 },
        });
        await amend(node.blockNode, { state: "active", "new-secret": "s1", keyslot: 5, "iter-time": 5 });
      }
      expect(await opensWith(path, "s0")).toBe(0);
      expect(await opensWith(path, "s1", "--key-slot", "5")).toBe(0);
      expect(await opensWith(path, "s2")).not.toBe(0);
      expect(await must("cryptsetup", "luksDump", path("header"))).toMatch(/Payload offset:\s+0\n/);
      const header = await readFile(path("header"));
      header.writeUInt32BE(HEADER / SECTOR, PAYLOAD_AT);
      await writeFile(path("whole"), Buffer.concat([header, await readFile(path("disk"))]));
      const whole = ["--image-opts", `driver=luks,key-secret=s0,file.filename=${path("whole")}`];
      await must("qemu-img", "convert", ...objects, ...whole, "-O", "raw", path("raw"));
      expect(Buffer.compare(await readFile(path("raw")), disk)).toBe(0);
    }));

  test("is not left half-made", () =>
    withEngine(async (engine, path) => {
      await writeFile(path("disk"), "mine");
      const made = parts(path);
      await expect(createImage({ ...made, ...options }, { engine })).rejects.toMatchObject({
        code: "EEXIST",
      });
      await expect(stat(path("header"))).rejects.toMatchObject({ code: "ENOENT" });
      expect(await readFile(path("disk"), "utf8")).toBe("mine");
      const { file: _file, ...alone } = made;
      const preallocated = { ...alone, ...options, preallocation: "full" } as const;
      await expect(createImage(preallocated, { engine })).rejects.toThrow(
        "Parameter 'preallocation' requires 'file' to be specified for formatting LUKS disk",
      );
      const { header: _header, ...nothing } = alone;
      await expect(createImage({ ...nothing, ...options }, { engine })).rejects.toThrow(
        "Either the parameter 'header' or 'file' must be specified",
      );
    }));
});

describe("a volume of cryptsetup's", () => {
  const format = ["luksFormat", "-q", "--type", "luks1", "--iter-time", "10"];

  test("with a header elsewhere is read and written on", () =>
    withEngine(async (engine, path) => {
      await writeFile(path("key"), secrets.s0);
      await writeFile(path("disk"), new Uint8Array(SIZE));
      await writeFile(path("header"), "");
      await writeFile(path("header"), new Uint8Array(2 ** 22));
      await must(
        "cryptsetup",
        ...format,
        "--key-file",
        path("key"),
        "--header",
        path("header"),
        path("disk"),
      );
      const disk = noise(SIZE, 6);
      {
        await using node = await openNode(spec(path), { engine });
        expect(node.length).toBe(SIZE);
        await node.write(0, disk);
        await amend(node.blockNode, { state: "active", "new-secret": "s2", "iter-time": 5 });
        await amend(node.blockNode, { state: "inactive", "old-secret": "s0" });
      }
      expect(await opensWith(path, "s0")).not.toBe(0);
      expect(await opensWith(path, "s2")).toBe(0);
      await using node = await openNode({ ...spec(path), "key-secret": "s2" }, { engine });
      expect(Buffer.compare(await node.read(0, SIZE), disk)).toBe(0);
    }));

  test("opens by the backup of a header that was wiped", () =>
    withEngine(async (engine, path) => {
      await writeFile(path("key"), secrets.s0);
      await writeFile(path("disk"), new Uint8Array(2 ** 22));
      await must("cryptsetup", ...format, "--key-file", path("key"), path("disk"));
      const backup = ["luksHeaderBackup", "--header-backup-file", path("header"), path("disk")];
      const disk = noise(SECTOR, 7);
      {
        await using node = await openNode(luks(file(path("disk")), { "key-secret": "s0" }), { engine });
        await node.write(0, disk);
      }
      await must("cryptsetup", ...backup);
      const wiped = await open(path("disk"), "r+");
      await wiped.write(new Uint8Array(4096), 0, 4096, 0);
      await wiped.close();
      await using node = await openNode(spec(path), { engine });
      expect(Buffer.compare(await node.read(0, SECTOR), disk)).toBe(0);
    }));
});

describe("on the command line", () => {
  test("create makes a header alone, which needs no size; other verbs open what it is of", () =>
    withEngine(async (_engine, path) => {
      const create = [
        "create",
        ...objects,
        "-f",
        "luks",
        "-o",
        "key-secret=s0,iter-time=5,detached-header=on",
      ];
      const run = (...words: string[]) => runVerb(words, { cwd: path(".") });
      const said = run(...create, path("header"));
      expect(said.stdout).toMatch(
        /^Formatting '.*', fmt=luks key-secret=s0 iter-time=5 detached-header=on\n$/,
      );
      expect((await stat(path("header"))).size).toBe(HEADER);
      await writeFile(path("disk"), new Uint8Array(SIZE));
      expect(await opensWith(path, "s0")).toBe(0);
      const opts = `driver=luks,key-secret=s0,file.filename=${path("disk")},header.filename=${path("header")}`;
      await writeFile(path("raw"), noise(SIZE, 8));
      const target = ["convert", ...objects, "-n", "--target-image-opts", "-f", "raw", path("raw"), opts];
      expect(run(...target)).toMatchObject({ status: 0, stderr: "" });
      const back = ["convert", ...objects, "--image-opts", opts, "-O", "raw", path("back")];
      expect(run(...back)).toMatchObject({ status: 0, stderr: "" });
      expect(Buffer.compare(await readFile(path("back")), await readFile(path("raw")))).toBe(0);
      const info = run("info", ...objects, "--image-opts", opts, "--output=json");
      expect(JSON.parse(info.stdout)).toMatchObject({
        "virtual-size": SIZE,
        "format-specific": { data: { "detached-header": true } },
      });
      const into = ["-O", "luks", "-o", "key-secret=s0,detached-header=on", path("raw"), path("x.luks")];
      expect(run("convert", ...objects, "-f", "raw", ...into)).toMatchObject({
        status: 1,
        stderr: expect.stringContaining("With 'detached-header' no disk is made") as unknown,
      });
      await expect(stat(path("x.luks"))).rejects.toMatchObject({ code: "ENOENT" });
    }));
});

describe("over QMP", () => {
  const volume = { driver: "luks", "node-name": "v", file: "disk", header: "header", "key-secret": "s0" };
  const made = { driver: "luks", file: "disk", header: "header", size: SIZE, ...options };

  async function files(path: (name: string) => string): Promise<string[]> {
    for (const name of ["disk", "header"]) await writeFile(path(name), "");
    const nodes = ["disk", "header"].map((name) => `file,node-name=${name},filename=${path(name)}`);
    return [...objects, ...nodes.flatMap((node) => ["--blockdev", node])];
  }

  test("from 10.1 on", () =>
    withEngine(async (_engine, path) => {
      await withDaemon({ args: ["--compat", "10.1", ...(await files(path))] }, async (daemon) => {
        await daemon.execute("blockdev-create", { "job-id": "make", options: made });
        for (let status = ""; status !== "concluded";) {
          const { data } = await daemon.event("JOB_STATUS_CHANGE");
          ({ status } = data as { status: string });
        }
        await daemon.execute("job-dismiss", { id: "make" });
        await daemon.execute("blockdev-add", volume);
        const rows = (await daemon.execute("query-named-block-nodes")) as Record<string, unknown>[];
        const row = rows.find((one) => one["node-name"] === "v");
        expect(row).toMatchObject({
          encrypted: true,
          image: { "virtual-size": SIZE, "format-specific": { data: { "detached-header": true } } },
        });
      });
      expect(await opensWith(path, "s0")).toBe(0);
    }));

  test("not by default", () =>
    withEngine(async (_engine, path) => {
      await withDaemon({ args: await files(path) }, async (daemon) => {
        expect(await daemon.refusal("blockdev-add", volume)).toBe("Parameter 'header' is unexpected");
        expect(await daemon.refusal("blockdev-create", { "job-id": "make", options: made })).toBe(
          "Parameter 'options.header' is unexpected",
        );
        const { file: _file, header: _header, ...nowhere } = made;
        expect(await daemon.refusal("blockdev-create", { "job-id": "make", options: nowhere })).toBe(
          "Parameter 'options.file' is missing",
        );
      });
    }));
});
