// --compat: the daemon's schema is exactly QEMU 7.2's by default, though drivers of ours can be used; `10.1` takes and shows what newer
// QEMU has brought, and does it. What comes out is read by the real programs.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Daemon, theirs, withDaemon } from "../support/daemon.ts";

let cwd = "";
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd, encoding: "utf8" });

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), "blockwright-compat-"));
  for (const name of ["src", "dst"]) run("qemu-img", "create", "-q", "-f", "qcow2", `${name}.qcow2`, "8M");
  run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 2M", "src.qcow2");
});
afterEach(() => rmSync(cwd, { recursive: true, force: true }));

const nodes = ["src", "dst"].flatMap((name) => [
  "--blockdev",
  `qcow2,node-name=${name},discard=unmap,file.driver=file,file.filename=${name}.qcow2`,
]);

interface Entry {
  readonly name: string;
  readonly "meta-type": string;
  readonly "arg-type"?: string;
  readonly members?: readonly { readonly name: string; readonly type: string }[];
  readonly variants?: readonly { readonly case: string; readonly type: string }[];
  readonly values?: readonly string[];
}

/** The schema by name. */
async function schemaOf(daemon: Daemon): Promise<Map<string, Entry>> {
  const entries = (await daemon.execute("query-qmp-schema")) as Entry[];
  return new Map(entries.map((entry) => [entry.name, entry]));
}

function argumentsOf(schema: Map<string, Entry>, command: string): Entry | undefined {
  return schema.get(schema.get(command)?.["arg-type"] ?? "");
}

const namesOf = (entry: Entry | undefined): string[] => (entry?.members ?? []).map(({ name }) => name);
const driversOf = (schema: Map<string, Entry>): string[] =>
  (argumentsOf(schema, "blockdev-add")?.variants ?? []).map((one) => one.case);

/** What a command's argument takes for each driver; of blockdev-create, for each format. */
function variantsOf(
  schema: Map<string, Entry>,
  command: "blockdev-add" | "blockdev-create",
): Map<string, Entry> {
  const whole = argumentsOf(schema, command);
  const options = whole?.members?.find(({ name }) => name === "options")?.type ?? "";
  const { variants = [] } = (command === "blockdev-add" ? whole : schema.get(options)) ?? {};
  return new Map(variants.map((one) => [one.case, schema.get(one.type)!]));
}

describe("the schema", () => {
  it.each(["blockdev-add", "blockdev-create"] as const)(
    "has by default exactly QEMU 7.2's options of the drivers that both have: %s",
    async (command) => {
      const known = variantsOf(await withDaemon({ program: theirs }, schemaOf), command);
      const shown = variantsOf(await withDaemon({}, schemaOf), command);
      // Debian's program has modules for these; `file` says of each build which AIO it has.
      const drivers = [...shown.keys()].filter((name) => known.has(name) && !/^https?$/.test(name));
      expect(drivers.length).toBeGreaterThan(command === "blockdev-add" ? 15 : 2);
      for (const driver of drivers) {
        // Persistent reservations are a device's (docs/COMPATIBILITY.md).
        const wanted = namesOf(known.get(driver)).filter((name) => name !== "pr-manager");
        expect(namesOf(shown.get(driver)).toSorted(), driver).toEqual(wanted.toSorted());
      }
    },
  );

  it("has by default no driver, command or argument that QEMU 7.2 has not", async () => {
    const real = await withDaemon({ program: theirs }, schemaOf);
    await withDaemon({}, async (daemon) => {
      const schema = await schemaOf(daemon);
      // Those that a machine has (docs/COMPATIBILITY.md).
      const more = ["stop", "cont", "query-status"];
      for (const [name, entry] of schema)
        if (entry["meta-type"] === "command" && !more.includes(name)) {
          expect(real.has(name), name).toBe(true);
          const theirNames = namesOf(argumentsOf(real, name));
          expect(
            namesOf(argumentsOf(schema, name)).filter((one) => !theirNames.includes(one)),
            name,
          ).toEqual([]);
        }
      expect(driversOf(schema).filter((name) => !driversOf(real).includes(name))).toEqual([]);
      const httpOf = (whole: Map<string, Entry>): string[] =>
        namesOf(variantsOf(whole, "blockdev-add").get("http"));
      expect(httpOf(schema)).toContain("url");
      // Debian's daemon has curl in a module of its own, so that its schema may lack it.
      const known = ["url", "readahead", "timeout", "username", "password-secret", "cookie", "cookie-secret"];
      expect(httpOf(schema).toSorted()).toEqual(known.toSorted());
      // They can be used all the same.
      await daemon.execute("blockdev-add", { driver: "memory", "node-name": "m", size: 1_048_576 });
    });
  });

  it("shows more at each level", async () => {
    const newer = await withDaemon({ args: ["--compat", "10.1"] }, schemaOf);
    expect(newer.get("block-job-change")?.["meta-type"]).toBe("command");
    expect(namesOf(argumentsOf(newer, "blockdev-mirror"))).toContain("target-is-zero");
    expect(namesOf(argumentsOf(newer, "blockdev-mirror"))).not.toContain("bitmap");
    expect(namesOf(argumentsOf(newer, "blockdev-backup"))).toEqual(
      expect.arrayContaining(["on-cbw-error", "discard-source"]),
    );
    expect(driversOf(newer)).not.toContain("memory");
    const optionsOf = (driver: string): string[] => namesOf(variantsOf(newer, "blockdev-add").get(driver));
    expect(optionsOf("copy-before-write")).toContain("min-cluster-size");
    expect(optionsOf("luks")).toContain("header");
    expect(optionsOf("qcow2")).toContain("discard-no-unref");
    expect(optionsOf("qcow2")).not.toContain("bitmap-journal");
    expect(namesOf(variantsOf(newer, "blockdev-create").get("luks"))).not.toContain("detached-header");
    const ours = await withDaemon({ args: ["--compat", "blockwright"] }, schemaOf);
    expect(driversOf(ours)).toEqual(expect.arrayContaining(["alloc-track", "memory", "oci", "s3"]));
    expect(namesOf(argumentsOf(ours, "blockdev-mirror"))).toEqual(
      expect.arrayContaining(["bitmap", "target-is-zero"]),
    );
    expect(ours.has("block-job-change")).toBe(true);
  });

  it("refuses at 7.2 what is newer", async () => {
    await withDaemon({ args: nodes, cwd }, async (daemon) => {
      const job = { "job-id": "j", device: "src", target: "dst", sync: "full" };
      expect(await daemon.refusal("blockdev-mirror", { ...job, "target-is-zero": true })).toBe(
        "Parameter 'target-is-zero' is unexpected",
      );
      expect(await daemon.refusal("blockdev-backup", { ...job, "on-cbw-error": "break-snapshot" })).toBe(
        "Parameter 'on-cbw-error' is unexpected",
      );
      const change = { id: "j", type: "mirror", "copy-mode": "write-blocking" };
      expect(await daemon.refusal("block-job-change", change)).toBe(
        "The command block-job-change has not been found",
      );
      await daemon.execute("blockdev-mirror", job);
      await daemon.event("BLOCK_JOB_READY");
      const [row] = (await daemon.execute("query-block-jobs")) as object[];
      expect(row).not.toHaveProperty("actively-synced");
      await daemon.execute("block-job-cancel", { device: "j" });
      await daemon.event("BLOCK_JOB_COMPLETED");
    });
  });
});

const newer = (...more: string[]): { args: string[]; cwd: string } => ({
  args: ["--compat", "10.1", ...nodes, ...more],
  cwd,
});

describe("at 10.1", () => {
  it("a mirror begins to copy the guest's writes at once when it is told to", async () => {
    await withDaemon(newer(), async (daemon) => {
      await daemon.execute("blockdev-mirror", { "job-id": "j", device: "src", target: "dst", sync: "full" });
      await daemon.event("BLOCK_JOB_READY");
      const synced = async (): Promise<unknown> => {
        const [row] = (await daemon.execute("query-block-jobs")) as Record<string, unknown>[];
        return row?.["actively-synced"];
      };
      expect(await synced()).toBe(false);
      const change = { id: "j", type: "mirror", "copy-mode": "write-blocking" };
      await daemon.execute("block-job-change", change);
      expect(await synced()).toBe(true);
      await daemon.execute("block-job-change", change);
      expect(await daemon.refusal("block-job-change", { ...change, "copy-mode": "background" })).toBe(
        "Change to copy mode 'background' is not implemented",
      );
      expect(await daemon.refusal("block-job-change", { ...change, id: "none" })).toBe(
        "Block job 'none' not found",
      );
      await daemon.execute("job-complete", { id: "j" });
      await daemon.event("BLOCK_JOB_COMPLETED");
    });
    run("qemu-img", "compare", "src.qcow2", "dst.qcow2");
  });

  it("another kind of job can't be changed", async () => {
    await withDaemon(newer(), async (daemon) => {
      const job = { "job-id": "j", device: "src", target: "dst", sync: "none" };
      await daemon.execute("blockdev-backup", job);
      const change = { id: "j", type: "mirror", "copy-mode": "write-blocking" };
      expect(await daemon.refusal("block-job-change", change)).toBe("Job type does not support change");
      await daemon.execute("block-job-cancel", { device: "j" });
      await daemon.event("BLOCK_JOB_CANCELLED");
    });
  });

  it("a target that is zero is not made so", async () => {
    // A lie shows: what the source has no data for stays as it was.
    run("qemu-img", "create", "-q", "-f", "raw", "full.raw", "8M");
    run("qemu-io", "-f", "raw", "-c", "write -q -P 9 4M 1M", "full.raw");
    const target = ["--blockdev", "file,node-name=full,filename=full.raw,discard=unmap"];
    await withDaemon(newer(...target), async (daemon) => {
      const job = { "job-id": "j", device: "src", target: "full", sync: "full", "target-is-zero": true };
      await daemon.execute("blockdev-mirror", job);
      await daemon.event("BLOCK_JOB_READY");
      await daemon.execute("block-job-cancel", { device: "j" });
      await daemon.event("BLOCK_JOB_COMPLETED");
    });
    run("qemu-io", "-f", "raw", "-c", "read -P 9 4M 1M", "-c", "read -P 1 0 2M", "full.raw");
  });

  it("a backup discards at its source what it has copied", async () => {
    await withDaemon(newer(), async (daemon) => {
      const job = { "job-id": "j", device: "src", target: "dst", sync: "full", "discard-source": true };
      await daemon.execute("blockdev-backup", job);
      const { data } = await daemon.event("BLOCK_JOB_COMPLETED");
      expect(data).not.toHaveProperty("error");
    });
    const map = (name: string): { data: boolean; start: number }[] =>
      JSON.parse(run("qemu-img", "map", "--output=json", name)) as { data: boolean; start: number }[];
    expect(map("src.qcow2").some(({ data }) => data)).toBe(false);
    run("qemu-io", "-f", "qcow2", "-c", "read -P 1 0 2M", "dst.qcow2");
  });

  it("clusters of a copy before a write are as large as they are asked to be", async () => {
    await withDaemon(newer(), async (daemon) => {
      const filter = { driver: "copy-before-write", "node-name": "cbw", file: "src", target: "dst" };
      expect(await daemon.refusal("blockdev-add", { ...filter, "min-cluster-size": 100_000 })).toBe(
        "min-cluster-size needs to be a power of 2",
      );
      await daemon.execute("blockdev-add", { ...filter, "min-cluster-size": 1_048_576 });
      const rows = (await daemon.execute("query-named-block-nodes", { flat: true })) as Record<
        string,
        unknown
      >[];
      const found = rows.find((row) => row["node-name"] === "cbw")?.["dirty-bitmaps"];
      expect(found).toMatchObject([{ granularity: 1_048_576 }, { granularity: 1_048_576 }]);
    });
  });

  it("a backup whose guest's write could not be copied gives itself up, and not the write", async () => {
    const target = [
      "--blockdev",
      '{"driver":"blkdebug","node-name":"bad","image":"dst","inject-error":[{"event":"none","iotype":"write","errno":28}]}',
    ];
    const nbd = ["--nbd-server", "addr.type=unix,addr.path=nbd.sock", "--export"];
    const exported = [...nbd, "nbd,id=e,node-name=src,writable=on,name=src"];
    await withDaemon(newer(...target, ...exported), async (daemon) => {
      const job = {
        "job-id": "j",
        device: "src",
        target: "bad",
        sync: "none",
        "on-cbw-error": "break-snapshot",
      };
      await daemon.execute("blockdev-backup", job);
      run("qemu-io", "-f", "raw", "-c", "write -P 5 0 64k", "nbd+unix:///src?socket=nbd.sock");
      const { data } = await daemon.event("BLOCK_JOB_COMPLETED");
      expect(data).toMatchObject({ error: expect.stringContaining("No space left on device") as unknown });
    });
    run("qemu-io", "-f", "qcow2", "-c", "read -P 5 0 64k", "src.qcow2");
  });
});
