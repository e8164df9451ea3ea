// NBD's client against real servers that misbehave, go away, come back, or come back as another export: nbdkit with its
// filters, qemu-nbd, with and without TLS.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createEngine, type Engine, type Job, mirror, type Node, openNode } from "../../src/node.ts";
import type { BlockJob } from "../../src/job/core/block-job.ts";
import { parseNbdName } from "../../src/drivers/protocol/nbd/names.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
let folder: string;
let engine: Engine;
let servers: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bw-nbd-"));
  engine = createEngine({ arenaBytes: 32 * MiB });
});

afterEach(async () => {
  await engine.close();
  await Promise.all(servers.map(ended));
  servers = [];
  rmSync(folder, { recursive: true, force: true });
});

/** Kills a server as a power cut would. */
async function ended(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const gone = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGKILL");
  await gone;
}

async function started(server: ChildProcess, socket: string): Promise<ChildProcess> {
  servers.push(server);
  let said = "";
  server.stderr?.on("data", (text) => (said += String(text)));
  while (!existsSync(socket)) {
    if (server.exitCode !== null) throw new Error(`the server did not start: ${said}`);
    await setTimeout(10);
  }
  return server;
}

/** nbdkit on the socket `s`; the pid file is there when it listens. */
function nbdkit(...words: string[]): Promise<ChildProcess> {
  const args = ["-f", "-U", join(folder, "s"), "-P", join(folder, "pid"), ...words];
  return started(
    spawn("nbdkit", args, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] }),
    join(folder, "pid"),
  );
}

function qemuNbd(file: string, ...words: string[]): Promise<ChildProcess> {
  rmSync(join(folder, "s"), { force: true });
  const args = ["-t", "-e", "0", "-f", "raw", "-k", join(folder, "s"), ...words, join(folder, file)];
  return started(spawn("qemu-nbd", args, { stdio: ["ignore", "ignore", "pipe"] }), join(folder, "s"));
}

function server(): { type: "unix"; path: string } {
  return { type: "unix", path: join(folder, "s") };
}

function open(more: object = {}): Promise<Node> {
  return openNode({ driver: "nbd", server: server(), ...more }, { engine });
}

function pattern(bytes: number, seed = 1): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + (i >> 12) * 13 + seed) & 0xff));
}

async function content(node: Node, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  await node.read(0, buffer);
  return buffer;
}

describe("nbdkit", () => {
  it.each([
    [[]],
    [["--filter=noextents"]],
    [["--filter=nozero"]],
    [["--filter=fua", "fuamode=discard"]],
    [["--filter=nozero", "zeromode=plugin"]],
    [["--no-sr"]],
    [["--mask-handshake=0"]],
    [["--filter=delay", "delay-read=3ms", "delay-write=5ms"]],
    [
      [
        "--filter=blocksize-policy",
        "blocksize-minimum=4096",
        "blocksize-maximum=64k",
        "blocksize-error-policy=error",
      ],
    ],
  ])("in memory, with %o", async (words: string[]) => {
    const filters = words.filter((word) => word.startsWith("-"));
    const parameters = words.filter((word) => !word.startsWith("-"));
    await nbdkit(...filters, "memory", "2M", ...parameters);
    const model = Buffer.alloc(2 * MiB);
    const node = await open({ discard: "unmap" });
    const write = async (offset: number, bytes: Buffer): Promise<void> => {
      bytes.copy(model, offset);
      await node.write(offset, bytes);
    };
    await write(1000, pattern(300 * KiB));
    await Promise.all(
      Array.from({ length: 40 }, (_, i) => write(512 * KiB + i * 12_345, pattern(12_345, i))),
    );
    await node.writeZeroes(100 * KiB, 50 * KiB);
    model.fill(0, 100 * KiB, 150 * KiB);
    await node.flush();
    expect((await content(node, 2 * MiB)).equals(model)).toBe(true);
    await node.close();
    const again = await open({ "read-only": true });
    expect((await content(again, 2 * MiB)).equals(model)).toBe(true);
  });

  it("tells its holes", async () => {
    writeFileSync(join(folder, "file"), pattern(64 * KiB));
    truncateSync(join(folder, "file"), 8 * MiB);
    await nbdkit("file", "file");
    const node = await open();
    const { blockNode } = node;
    const status = await blockNode.driver.blockStatus!(MiB, MiB, true);
    expect(status).toMatchObject({ bytes: MiB, data: false, zero: true });
    expect(await blockNode.driver.blockStatus!(0, 4096, true)).toMatchObject({ data: true, zero: false });
  });

  it.each([
    ["EIO", "EIO"],
    ["ENOSPC", "ENOSPC"],
    ["EPERM", "EPERM"],
    ["ENOMEM", "ENOMEM"],
  ])("fails with %s", async (told, code) => {
    await nbdkit("--filter=error", "pattern", "1M", `error-pread=${told}`, "error-pread-rate=100%");
    const node = await open({ "read-only": true });
    await expect(content(node, 4096)).rejects.toMatchObject({ code });
    // The link is as it was.
    await expect(content(node, 4096)).rejects.toMatchObject({ code });
    expect(node.length).toBe(MiB);
  });

  it("gets data in parts once it had a long request, and a part that fails is told", async () => {
    const broken = join(folder, "broken");
    await nbdkit(
      "--filter=log",
      "--filter=error",
      "memory",
      "8M",
      `logfile=${join(folder, "log")}`,
      "error-pread=EIO",
      "error-pread-rate=100%",
      `error-pread-file=${broken}`,
    );
    const asked = (): string[] =>
      [...readFileSync(join(folder, "log"), "utf8").matchAll(/ (Read|Write) .*count=0x([0-9a-f]+)/g)].map(
        ([, verb, count]) => `${verb} ${parseInt(count!, 16) / KiB}`,
      );
    const node = await open();
    await node.write(KiB, pattern(2 * MiB));
    await node.write(3 * MiB, pattern(1.5 * MiB, 2));
    const first = ["Write 2048", "Write 1024", "Write 512"];
    expect(asked()).toEqual(first);
    const model = Buffer.alloc(5 * MiB);
    pattern(2 * MiB).copy(model, KiB);
    pattern(1.5 * MiB, 2).copy(model, 3 * MiB);
    expect((await content(node, 5 * MiB)).equals(model)).toBe(true);
    expect((await content(node, 5 * MiB)).equals(model)).toBe(true);
    const parts = Array.from({ length: 5 }, () => "Read 1024");
    expect(asked()).toEqual([...first, "Read 5120", ...parts]);
    writeFileSync(broken, "");
    await expect(content(node, 2 * MiB)).rejects.toMatchObject({ code: "EIO" });
    rmSync(broken);
    expect((await content(node, 5 * MiB)).equals(model)).toBe(true);
  });

  it("that exits when it likes leaves EIO, and the next request tries anew", async () => {
    const first = await nbdkit("memory", "1M");
    const node = await open();
    await node.write(0, pattern(4096));
    await ended(first);
    await expect(content(node, 4096)).rejects.toMatchObject({ code: "EIO" });
    rmSync(join(folder, "s"));
    rmSync(join(folder, "pid"));
    await nbdkit("memory", "1M");
    expect((await content(node, 4096)).every((byte) => byte === 0)).toBe(true);
  });

  it("with other flags, or another length, is not used any more", async () => {
    for (const other of [
      ["memory", "2M"],
      ["-r", "memory", "1M"],
      ["--filter=noextents", "--no-sr", "memory", "1M"],
    ]) {
      const first = await nbdkit("memory", "1M");
      const node = await open({ "reconnect-delay": 20 });
      await node.write(0, pattern(4096));
      await ended(first);
      rmSync(join(folder, "s"));
      rmSync(join(folder, "pid"));
      const second = await nbdkit(...other);
      await expect(node.write(0, pattern(4096))).rejects.toMatchObject({ code: "ESTALE" });
      await expect(content(node, 512)).rejects.toMatchObject({ code: "ESTALE" });
      await node.close().catch(() => undefined);
      await ended(second);
      rmSync(join(folder, "s"));
      rmSync(join(folder, "pid"));
    }
  });

  it("is waited for at opening", async () => {
    const opening = open({ "open-timeout": 20 });
    await setTimeout(150);
    await nbdkit("memory", "1M");
    expect((await opening).length).toBe(MiB);
    await expect(
      openNode(
        { driver: "nbd", server: { type: "unix", path: join(folder, "none") }, "open-timeout": 1 },
        { engine },
      ),
    ).rejects.toThrow(`Failed to connect to '${join(folder, "none")}': No such file or directory`);
  });

  it("that says nothing is given up", async () => {
    const { createServer } = await import("node:net");
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(join(folder, "s"), resolve));
    const { timer } = engine.graph.host.clock;
    // The handshake's limit, sooner.
    Object.assign(engine.graph.host.clock, {
      timer: (ms: number, run: () => void) => timer(Math.min(ms, 100), run),
    });
    try {
      await expect(open()).rejects.toMatchObject({ code: "ETIMEDOUT" });
    } finally {
      Object.assign(engine.graph.host.clock, { timer });
      silent.close();
    }
  });
});

describe("a server that is killed under a mirror", () => {
  const bytes = 16 * MiB;

  async function begin(more: object): Promise<{ job: Job; killed: ChildProcess }> {
    writeFileSync(join(folder, "source"), pattern(bytes));
    writeFileSync(join(folder, "target"), "");
    truncateSync(join(folder, "target"), bytes);
    const killed = await qemuNbd("target");
    const source = await openNode(
      { driver: "raw", file: { driver: "file", filename: join(folder, "source") } },
      { engine },
    );
    const target = await open(more);
    const job = await mirror(source, target, {
      sync: "full",
      onTargetError: "stop",
      speedBytesPerSecond: 4 * MiB,
      bufferBytes: MiB,
    });
    while (job.offset < MiB) await setTimeout(10);
    return { job, killed };
  }

  async function finish(job: Job): Promise<void> {
    (job as BlockJob).setSpeed(0);
    while (!job.isReady) await setTimeout(10);
    await job.complete();
    await job.done;
    await engine.close();
    expect(readFileSync(join(folder, "target")).equals(pattern(bytes))).toBe(true);
  }

  it("pauses it by `stop`, which goes on when the server is back, and ends equal", async () => {
    const { job, killed } = await begin({});
    await ended(killed);
    while (job.status !== "paused") await setTimeout(10);
    expect((job as BlockJob).ioStatus).toBe("failed");
    await qemuNbd("target");
    job.resume();
    await finish(job);
  });

  it("is not noticed within `reconnect-delay`", async () => {
    const { job, killed } = await begin({ "reconnect-delay": 30 });
    await ended(killed);
    await setTimeout(100);
    await qemuNbd("target");
    expect(job.status).toBe("running");
    await finish(job);
  });
});

describe("TLS", () => {
  let keys: string;

  beforeAll(() => {
    keys = mkdtempSync(join(tmpdir(), "bw-tls-"));
    const openssl = (line: string): unknown =>
      execFileSync("openssl", line.split(" "), { cwd: keys, stdio: "ignore" });
    openssl(
      "req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca-cert.pem -days 30 -subj /CN=authority",
    );
    writeFileSync(join(keys, "ext"), "subjectAltName=DNS:localhost");
    for (const side of ["server", "client"]) {
      openssl(`req -newkey rsa:2048 -nodes -keyout ${side}-key.pem -out ${side}.csr -subj /CN=localhost`);
      openssl(
        `x509 -req -in ${side}.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -out ${side}-cert.pem -days 30 -extfile ext`,
      );
    }
    mkdirSync(join(keys, "other"));
    openssl(
      "req -x509 -newkey rsa:2048 -nodes -keyout other/key.pem -out other/ca-cert.pem -days 30 -subj /CN=other",
    );
    writeFileSync(join(keys, "keys.psk"), `qemu:${"ab".repeat(32)}\nalice:${"cd".repeat(32)}\n`);
  });

  afterAll(() => rmSync(keys, { recursive: true, force: true }));

  async function roundTrip(more: object): Promise<void> {
    const node = await open(more);
    await node.write(0, pattern(MiB));
    expect((await content(node, MiB)).equals(pattern(MiB))).toBe(true);
    await node.close();
  }

  it("by certificates: the right one, another authority, another name, none", async () => {
    await nbdkit("--tls=require", `--tls-certificates=${keys}`, "--tls-verify-peer", "memory", "2M");
    const add = (id: string, dir: string): Promise<void> =>
      engine.objects.add({ "qom-type": "tls-creds-x509", id, dir, endpoint: "client" });
    await add("good", keys);
    await add("bad", join(keys, "other"));
    await engine.objects.add({ "qom-type": "tls-creds-x509", id: "server", dir: keys, endpoint: "server" });
    await roundTrip({ "tls-creds": "good", "tls-hostname": "localhost" });
    await expect(open({ "tls-creds": "good", "tls-hostname": "elsewhere" })).rejects.toThrow(
      "Certificate does not match the hostname elsewhere",
    );
    await expect(open({ "tls-creds": "bad" })).rejects.toThrow("The certificate hasn't got a known issuer");
    await expect(open({ "tls-creds": "none" })).rejects.toThrow("No TLS credentials with id 'none'");
    await expect(open({ "tls-creds": "server" })).rejects.toThrow(
      "Expected TLS credentials for a client endpoint",
    );
    await expect(open()).rejects.toThrow("TLS negotiation required before option 7 (go)");
  });

  it("by keys that both sides share", async () => {
    await nbdkit("--tls=require", `--tls-psk=${join(keys, "keys.psk")}`, "memory", "2M");
    await engine.objects.add({ "qom-type": "tls-creds-psk", id: "a", dir: keys, username: "alice" });
    await engine.objects.add({ "qom-type": "tls-creds-psk", id: "q", dir: keys });
    await roundTrip({ "tls-creds": "a" });
    await roundTrip({ "tls-creds": "q" });
    const other = join(folder, "other");
    mkdirSync(other);
    writeFileSync(join(other, "keys.psk"), `qemu:${"00".repeat(32)}\n`);
    await engine.objects.add({ "qom-type": "tls-creds-psk", id: "wrong", dir: other });
    await expect(open({ "tls-creds": "wrong" })).rejects.toThrow("TLS handshake failed");
    await expect(
      engine.objects.add({
        "qom-type": "tls-creds-psk",
        id: "s",
        dir: keys,
        endpoint: "server",
        username: "q",
      }),
    ).rejects.toThrow("username should not be set when endpoint=server");
    await expect(
      engine.objects.add({ "qom-type": "tls-creds-psk", id: "n", dir: keys, username: "bob" }),
    ).rejects.toThrow("Username bob not found in PSK file");
  });

  it("of a server that has none is refused", async () => {
    await nbdkit("memory", "1M");
    await engine.objects.add({ "qom-type": "tls-creds-x509", id: "good", dir: keys });
    await expect(open({ "tls-creds": "good" })).rejects.toThrow(/option 5 \(starttls\)|STARTTLS/);
  });
});

it("a name opens a disk of the library's", async () => {
  await nbdkit("memory", "1M");
  const name = `nbd+unix:///?socket=${join(folder, "s")}`;
  expect(parseNbdName(name).options?.["server"]).toEqual(server());
  const node = await openNode(name, { engine });
  expect(node.length).toBe(MiB);
  expect((await node.info()).filename).toBe(name.replace("///", "//"));
});
