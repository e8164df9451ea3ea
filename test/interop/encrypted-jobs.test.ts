// blockdev-create and x-blockdev-amend of encrypted images by QMP, beside the real qemu-storage-daemon: the same refusals, the
// same states of the jobs and the same errors in query-jobs; what ours made and changed is unlocked by qemu-io and cryptsetup.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Daemon, ours, theirs, withDaemon } from "../support/daemon.ts";
import { TRIES, wasTooBusy } from "../support/tools.ts";
import { objects, secrets, secretWords } from "./support/encrypted.ts";

const root = mkdtempSync(join(tmpdir(), "blockwright-encrypted-jobs-"));
const MiB = 1 << 20;

afterAll(() => rmSync(root, { recursive: true }));

type Options = Record<string, unknown>;

/** A job and what came of it: the refusal of its command, or its states and its error. */
interface Outcome {
  refusal?: string | undefined;
  states?: unknown[];
  error?: unknown;
}

/** Runs a job, again where the machine was too busy for QEMU to measure how long a key takes. */
async function runJob(daemon: Daemon, id: string, command: string, options: Options): Promise<Outcome> {
  for (let tries = 1; ; tries++) {
    const outcome = await runOnce(daemon, id, command, options);
    if (tries === TRIES || !wasTooBusy(String(outcome.error))) return outcome;
  }
}

async function runOnce(daemon: Daemon, id: string, command: string, options: Options): Promise<Outcome> {
  const refusal = await daemon.refusal(command, { "job-id": id, ...options });
  if (refusal !== undefined) return { refusal };
  await daemon.event("JOB_STATUS_CHANGE", { id, status: "concluded" });
  const jobs = (await daemon.execute("query-jobs")) as { id: string; error?: string }[];
  const error = jobs.find((job) => job.id === id)?.error;
  await daemon.execute("job-dismiss", { id });
  const gone = await daemon.event("JOB_STATUS_CHANGE", { id, status: "null" });
  const earlier = daemon.events.splice(0).filter(({ data }) => data?.["id"] === id);
  return { states: [...earlier, gone].map(({ data }) => data?.["status"]), error };
}

/** What both daemons do, each in a directory of its own with an empty file `x.img`. */
async function inBoth<T>(
  name: string,
  body: (daemon: Daemon, directory: string) => Promise<T>,
): Promise<{ ours: T; theirs: T; directory: string }> {
  const run = async (program: readonly string[], whose: string): Promise<T> => {
    const cwd = join(root, `${name}-${whose}`);
    mkdirSync(cwd);
    writeFileSync(join(cwd, "x.img"), "");
    const args = [
      ...secretWords.flatMap((word) => ["--object", word]),
      ...["--blockdev", "file,node-name=f,filename=x.img"],
    ];
    return withDaemon({ program, args, cwd }, (daemon) => body(daemon, cwd));
  };
  const [real, own] = await Promise.all([run(theirs, "theirs"), run(ours, "ours")]);
  return { ours: own, theirs: real, directory: join(root, `${name}-ours`) };
}

const luks = { driver: "luks", file: "f", size: MiB, "key-secret": "s0", "iter-time": 10 };
const encrypt = { format: "luks", "key-secret": "s0", "iter-time": 10 };
const qcow2 = { driver: "qcow2", file: "f", size: MiB };

const good: Record<string, Options> = {
  "luks-cbc": {
    ...luks,
    "cipher-mode": "cbc",
    "ivgen-alg": "essiv",
    "ivgen-hash-alg": "sha256",
    preallocation: "metadata",
  },
  "luks-full": { ...luks, preallocation: "full", "iter-time": 0 },
  "qcow2-luks": { ...qcow2, encrypt },
  "qcow2-aes": { ...qcow2, encrypt: { format: "qcow", "key-secret": "s0" } },
};

const bad: Record<string, Options> = {
  "no secret": { ...luks, "key-secret": undefined },
  "another secret": { ...luks, "key-secret": "nope" },
  "no cipher": { ...luks, "cipher-alg": "foo" },
  "a cipher without code": { ...luks, "cipher-alg": "3des" },
  "essiv without hash": { ...luks, "cipher-mode": "cbc", "ivgen-alg": "essiv" },
  "no size": { ...luks, size: undefined },
  "no number": { ...luks, "iter-time": "x" },
  "no mode": { ...luks, preallocation: "x" },
  "no secret in qcow2": { ...qcow2, encrypt: { format: "luks" } },
  "another secret in qcow2": { ...qcow2, encrypt: { format: "luks", "key-secret": "nope" } },
  "no format": { ...qcow2, encrypt: { "key-secret": "s0" } },
  "aes by its old name": { ...qcow2, encrypt: { format: "aes", "key-secret": "s0" } },
  "a cipher for aes": { ...qcow2, encrypt: { format: "qcow", "key-secret": "s0", "cipher-alg": "aes-256" } },
};

function unlocks(directory: string, driver: string, secret: keyof typeof secrets): boolean {
  const key = driver === "luks" ? "key-secret" : "encrypt.key-secret";
  const image = `driver=${driver},${key}=${secret},file.filename=x.img`;
  const words = [...objects, "--image-opts", image, "-c", "write -P 5 0 64k", "-c", "read -P 5 0 64k"];
  const { status, stdout } = spawnSync("qemu-io", words, { cwd: directory, encoding: "utf8" });
  return status === 0 && !stdout.includes("failed");
}

function cryptsetupOpens(directory: string, secret: keyof typeof secrets): boolean {
  const words = ["open", "--test-passphrase", "--type", "luks1", "--key-file", "-", "x.img"];
  return spawnSync("cryptsetup", words, { cwd: directory, input: secrets[secret] }).status === 0;
}

describe("blockdev-create of encrypted images, as qemu-storage-daemon", () => {
  it.each(Object.entries(good))("%s", async (name, options) => {
    const made = await inBoth(`make-${name}`, (daemon) =>
      runJob(daemon, "c", "blockdev-create", { options }),
    );
    expect(made.ours).toEqual(made.theirs);
    expect(made.ours.error).toBeUndefined();
    const driver = String(options["driver"]);
    expect(unlocks(made.directory, driver, "s0")).toBe(true);
    expect(unlocks(made.directory, driver, "s1")).toBe(driver === "qcow2" && name.endsWith("aes"));
    if (driver === "luks") expect(cryptsetupOpens(made.directory, "s0")).toBe(true);
  });

  it("refuses the same", async () => {
    const made = await inBoth("refuse", async (daemon) => {
      const outcomes: Record<string, Outcome> = {};
      for (const [name, options] of Object.entries(bad))
        outcomes[name] = await runJob(daemon, "c", "blockdev-create", { options });
      return outcomes;
    });
    expect(made.ours).toEqual(made.theirs);
  });
});

const changes: [name: string, options: Options, force?: boolean][] = [
  ["add", { state: "active", "new-secret": "s1", "iter-time": 10 }],
  ["add at 5", { state: "active", "new-secret": "s2", keyslot: 5, "iter-time": 10 }],
  ["add over one", { state: "active", "new-secret": "s2", keyslot: 5, "iter-time": 10 }],
  ["add at 8", { state: "active", "new-secret": "s2", keyslot: 8 }],
  ["add at -1", { state: "active", "new-secret": "s2", keyslot: -1 }],
  ["add nothing", { state: "active" }],
  ["add another", { state: "active", "new-secret": "nope" }],
  ["add and erase", { state: "active", "new-secret": "s1", "old-secret": "s0" }],
  ["no state", { "new-secret": "s1" }],
  ["a wrong state", { state: "x" }],
  ["erase by password", { state: "inactive", "old-secret": "s2" }],
  ["erase an empty one", { state: "inactive", keyslot: 5 }],
  ["erase nothing", { state: "inactive" }],
  ["erase with time", { state: "inactive", keyslot: 1, "iter-time": 10 }],
  ["erase the first", { state: "inactive", keyslot: 0 }],
  ["erase the last", { state: "inactive", keyslot: 1 }],
  ["erase the last by password", { state: "inactive", "old-secret": "s1" }],
  ["change the last, forced", { state: "active", "new-secret": "s2", keyslot: 1, "iter-time": 10 }, true],
];

describe("x-blockdev-amend, as qemu-storage-daemon", () => {
  it.each(["luks", "qcow2"])("key slots of %s", async (driver) => {
    const amend = (change: Options): Options =>
      driver === "luks" ? { driver, ...change } : { driver, encrypt: { format: "luks", ...change } };
    const amended = await inBoth(`amend-${driver}`, async (daemon) => {
      const options = driver === "luks" ? luks : { ...qcow2, encrypt };
      await runJob(daemon, "c", "blockdev-create", { options });
      await daemon.execute("blockdev-add", {
        driver,
        "node-name": "d",
        file: "f",
        ...onlySecret(driver, "s0"),
      });
      const outcomes: Record<string, Outcome> = {};
      for (const [name, change, force] of changes) {
        const request = { "node-name": "d", options: amend(change), ...(force ? { force } : {}) };
        outcomes[name] = await runJob(daemon, "a", "x-blockdev-amend", request);
      }
      await daemon.execute("blockdev-add", {
        driver: "file",
        "node-name": "g",
        filename: "x.img",
        "read-only": true,
        locking: "off",
      });
      // QEMU does not look whether a qcow2 node is read-only before it looks at the slots.
      const others = [
        ["a file", "g"],
        ["no node", "nope"],
        ...(driver === "luks" ? [["read-only", "r"]] : []),
      ] as const;
      await daemon.execute("blockdev-add", {
        driver,
        "node-name": "r",
        file: "g",
        "read-only": true,
        ...onlySecret(driver, "s1"),
      });
      for (const [name, node] of others) {
        const request = { "node-name": node, options: amend({ state: "inactive", keyslot: 7 }) };
        outcomes[name] = await runJob(daemon, "a", "x-blockdev-amend", request);
      }
      return outcomes;
    });
    expect(amended.ours).toEqual(amended.theirs);
    const opening = (["s0", "s1", "s2"] as const).map((secret) => unlocks(amended.directory, driver, secret));
    expect(opening).toEqual([false, true, false]);
    if (driver === "luks") expect(cryptsetupOpens(amended.directory, "s1")).toBe(true);
  });
});

function onlySecret(driver: string, secret: string): Options {
  return driver === "luks" ? { "key-secret": secret } : { encrypt: { format: "luks", "key-secret": secret } };
}
