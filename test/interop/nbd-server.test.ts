// Our NBD server before clients that others wrote, beside the real storage daemon on a copy of the same disk: what each client says
// of the two is the same, and so is every answer and refusal of QMP.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Daemon, ours, theirs, withDaemon } from "../support/daemon.ts";
import { freePort, makeCredentials, makeDisk, nbdsh, said, say, Scratch, SHELL } from "./support/nbd.ts";

const scratch = new Scratch();
const sides = ["theirs", "ours"] as const;
type Side = (typeof sides)[number];
const daemons = new Map<Side, Daemon>();

/** The URI of an export of a side. */
function uri(side: Side, name = "n", params = ""): string {
  return `nbd+unix:///${name}?socket=${scratch.at(`${side}.sock`)}${params}`;
}

/** What a program says with our server and with theirs, names of the side taken out. */
async function both(run: (side: Side) => Promise<string>): Promise<{ theirs: string; ours: string }> {
  const [real, own] = await Promise.all(sides.map(run));
  const plain = (text = ""): string => text.replaceAll(/\b(theirs|ours)\b/g, "SIDE");
  return { theirs: plain(real), ours: plain(own) };
}

async function expectSame(run: (side: Side) => Promise<string>): Promise<void> {
  const answers = await both(run);
  expect(answers.ours).toBe(answers.theirs);
  expect(answers.ours).not.toBe("");
}

beforeAll(async () => {
  await makeDisk(scratch.at("theirs.qcow2"));
  copyFileSync(scratch.at("theirs.qcow2"), scratch.at("ours.qcow2"));
  for (const side of sides) {
    const program = side === "ours" ? ours : theirs;
    const file = `driver=file,filename=${scratch.at(`${side}.qcow2`)},node-name=f`;
    const nbd = ["--nbd-server", `addr.type=unix,addr.path=${scratch.at(`${side}.sock`)}`];
    const more = ["--export", "nbd,id=r,node-name=m,name=ro"];
    const args = [
      ...["--blockdev", file, "--blockdev", "driver=qcow2,file=f,node-name=n,discard=unmap"],
      ...["--blockdev", "driver=null-co,read-zeroes=on,size=1048576,node-name=m", ...nbd, ...more],
      "--export",
      "nbd,id=e,node-name=n,writable=on,bitmaps.0=b0,allocation-depth=on,description=hello",
    ];
    daemons.set(side, await Daemon.start({ program, args }));
  }
});

afterAll(async () => {
  for (const daemon of daemons.values()) await daemon.quit();
  scratch.remove();
});

describe("clients of others say the same of both servers", () => {
  test("nbdinfo: flags, sizes, contexts, the list", async () => {
    await expectSame((side) => said("nbdinfo", "--json", uri(side)));
    await expectSame((side) => said("nbdinfo", "--list", "--json", uri(side, "")));
    await expectSame((side) => said("nbdinfo", uri(side, "ro")));
  });

  test.each(["base:allocation", "qemu:dirty-bitmap:b0", "qemu:allocation-depth"])(
    "nbdinfo --map=%s",
    async (context) => {
      await expectSame((side) => said("nbdinfo", `--map=${context}`, uri(side)));
    },
  );

  test("qemu-img info and map, nbd-client -l", async () => {
    await expectSame((side) => said("qemu-img", "map", "--output=json", uri(side)));
    await expectSame((side) => said("qemu-img", "info", uri(side)));
    await expectSame((side) => said("/usr/sbin/nbd-client", "-l", "-unix", scratch.at(`${side}.sock`)));
  });

  test("an export that is not there", async () => {
    await expectSame(async (side) => (await say("nbdinfo", [uri(side, "nope")])).stderr);
    await expectSame(async (side) => (await say("qemu-img", ["info", uri(side, "nope")])).stderr);
  });
});

describe("data", () => {
  test("nbdcopy reads it over several connections, and writes it", async () => {
    const digest = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
    for (const side of sides) await said("nbdcopy", uri(side), scratch.at(`${side}.raw`));
    expect(digest(scratch.at("ours.raw"))).toBe(digest(scratch.at("theirs.raw")));
    expect(digest(scratch.at("ours.raw"))).not.toBe(
      createHash("sha256")
        .update(Buffer.alloc(2 ** 26))
        .digest("hex"),
    );
  });

  test("qemu-io writes, reads, discards and flushes", async () => {
    const commands = [
      "write -P 3 30M 1M",
      "read -P 3 30M 1M",
      "write -z -u 30M 64k",
      "read -P 0 30M 64k",
      "discard 30M 1M",
      "flush",
    ];
    const flags = commands.flatMap((command) => ["-c", command]);
    await expectSame(async (side) =>
      (await said("qemu-io", "-f", "raw", ...flags, uri(side))).replaceAll(/\d\d\.\d\d sec.*/g, "T"),
    );
    await expectSame((side) => said("nbdinfo", "--map=qemu:dirty-bitmap:b0", uri(side)));
  });

  test("libnbd's commands with their flags, right and wrong", async () => {
    const script = [
      "import errno",
      "h.set_strict_mode(0)",
      "def tell(f):\n  try: print(f())\n  except nbd.Error as e: print(e.errno)",
      "b = b'x' * 65536",
      "tell(lambda: h.pwrite(b, 50 << 20, nbd.CMD_FLAG_FUA))",
      "tell(lambda: h.pread(65536, 50 << 20) == b)",
      "tell(lambda: h.pread(65536, 50 << 20, nbd.CMD_FLAG_DF) == b)",
      "tell(lambda: h.zero(4096, 50 << 20, nbd.CMD_FLAG_NO_HOLE))",
      "tell(lambda: h.zero(4096, (50 << 20) + 4096, nbd.CMD_FLAG_FAST_ZERO))",
      "tell(lambda: h.trim(65536, 50 << 20, nbd.CMD_FLAG_FUA))",
      "tell(lambda: h.cache(65536, 50 << 20))",
      "tell(lambda: h.flush())",
      "tell(lambda: h.pread(512, h.get_size()))",
      "tell(lambda: h.pwrite(b, h.get_size() - 512))",
      "tell(lambda: h.zero(512, h.get_size()))",
      "tell(lambda: h.trim(1 << 30, 0))",
      "tell(lambda: h.pread(1, h.get_size() - 1))",
      "tell(lambda: len(h.pread(32 << 20, 0)))",
      "tell(lambda: h.pwrite(bytearray(32 << 20), 0))",
      "tell(lambda: h.flush())",
    ];
    await expectSame((side) => nbdsh(uri(side), ...script));
    const refused = [
      "h.set_strict_mode(0)",
      script[2]!,
      "tell(lambda: h.pwrite(b'x' * 512, 0))",
      "tell(lambda: h.pread(512, 0) == bytearray(512))",
    ];
    await expectSame((side) => nbdsh(uri(side, "ro"), ...refused));
  });
});

test("the socket is this user's alone", () => {
  expect(statSync(scratch.at("ours.sock")).mode & 0o777).toBe(0o600);
});

const addr = { type: "unix", data: { path: "SOCK" } };
const add = (more: object = {}): readonly [string, Record<string, unknown>] => [
  "block-export-add",
  { type: "nbd", id: "e", "node-name": "n", ...more },
];
/** Conversations of QMP; answers and events are compared. */
const stories: Record<string, (readonly [command: string, args?: Record<string, unknown>])[]> = {
  "a server that starts and stops": [
    ["nbd-server-stop"],
    ["nbd-server-start", { addr: { type: "unix", path: "SOCK" } }],
    ["nbd-server-start", { addr: { type: "unix", data: { path: "/nonexistent/s" } } }],
    ["nbd-server-start", { addr, "tls-creds": "nope" }],
    ["nbd-server-start", { addr }],
    ["nbd-server-start", { addr }],
    ["nbd-server-stop"],
    ["nbd-server-stop"],
  ],
  "exports that come and go": [
    add(),
    ["nbd-server-start", { addr }],
    add(),
    add(),
    add({ id: "e2" }),
    ["query-block-exports"],
    ["block-export-del", { id: "x" }],
    ["blockdev-del", { "node-name": "n" }],
    ["block-export-del", { id: "e" }],
    ["query-block-exports"],
    ["block-export-del", { id: "e", mode: "hard" }],
    add({ name: "other", writable: true }),
    ["block_resize", { "node-name": "n", size: 2097152 }],
    ["nbd-server-stop"],
    ["query-block-exports"],
    ["blockdev-del", { "node-name": "n" }],
  ],
  "exports that can't be": [
    ["nbd-server-start", { addr }],
    add({ "node-name": "nope" }),
    add({ "node-name": "r", writable: true }),
    add({ id: "1e" }),
    add({ id: "" }),
    add({ bitmaps: ["b"] }),
    add({ iothread: "nope" }),
    add({ type: "nonsense" }),
    add({ type: "fuse" }),
    add({ type: "vhost-user-blk" }),
    add({ name: "x".repeat(4097) }),
    add({ bitmaps: "b" }),
    ["block-export-add", { id: "e", "node-name": "n" }],
    ["query-block-exports"],
  ],
  "bitmaps of exports": [
    ["block-dirty-bitmap-add", { node: "n", name: "b" }],
    ["nbd-server-start", { addr }],
    add({ bitmaps: ["b"] }),
    add({ bitmaps: ["b"], writable: true }),
    ["block-dirty-bitmap-remove", { node: "n", name: "b" }],
    ["block-dirty-bitmap-clear", { node: "n", name: "b" }],
    add({ id: "f", name: "f", bitmaps: ["b"], writable: true }),
    ["block-export-del", { id: "e" }],
    ["block-dirty-bitmap-disable", { node: "n", name: "b" }],
    add({ bitmaps: [{ node: "n", name: "b" }] }),
  ],
  "the older commands": [
    ["nbd-server-add", { device: "n" }],
    ["nbd-server-start", { addr }],
    ["nbd-server-add", { device: "nope" }],
    ["nbd-server-add", { device: "n" }],
    ["nbd-server-add", { device: "n" }],
    ["nbd-server-add", { device: "r", name: "x", writable: true }],
    ["query-block-exports"],
    ["nbd-server-remove", { name: "y" }],
    ["nbd-server-remove", { name: "x" }],
    ["nbd-server-remove", { name: "n", mode: "hard" }],
    ["query-block-exports"],
  ],
};

describe("QMP", () => {
  const args = ["null-co,node-name=n,size=1048576", "null-co,node-name=r,size=1048576,read-only=on"].flatMap(
    (spec) => ["--blockdev", spec],
  );

  async function told(side: Side, story: (typeof stories)[string]): Promise<string> {
    const sock = scratch.at(`qmp-${side}.sock`);
    return withDaemon({ program: side === "ours" ? ours : theirs, args }, async (daemon) => {
      const answers: string[] = [];
      for (const [command, given = {}] of story) {
        const args = JSON.parse(JSON.stringify(given).replace("SOCK", sock)) as Record<string, unknown>;
        const answer = await daemon.ask(command, args);
        const events = daemon.events.splice(0).map(({ event, data }) => ({ event, data }));
        answers.push(JSON.stringify([command, answer.error ?? answer.return, events]));
      }
      return answers.map((text) => text.replaceAll(sock, "SOCK")).join("\n");
    });
  }

  /** The order of members is nobody's business. */
  const sorted = (text: string): unknown => text.split("\n").map((line) => JSON.parse(line) as unknown);

  test.each(Object.entries(stories))("%s", async (_name, story) => {
    const [real, own] = await Promise.all(sides.map((side) => told(side, story)));
    expect(sorted(own!)).toEqual(sorted(real!));
  });

  test("a client that is there: safe removal is refused, hard ends it", async () => {
    const story = async (side: Side): Promise<string> => {
      const sock = scratch.at(`busy-${side}.sock`);
      const nbd = ["--nbd-server", `addr.type=unix,addr.path=${sock}`, "--export", "nbd,id=e,node-name=n"];
      return withDaemon(
        { program: side === "ours" ? ours : theirs, args: [...args, ...nbd] },
        async (daemon) => {
          const [python, ...words] = SHELL;
          const script = ["-c", "h.pread(512, 0); print('in', flush=True); import time; time.sleep(60)"];
          const client = spawn(python, [...words, "-u", `nbd+unix:///n?socket=${sock}`, ...script]);
          await once(client.stdout, "data");
          const safe = await daemon.ask("block-export-del", { id: "e" });
          const hard = await daemon.ask("block-export-del", { id: "e", mode: "hard" });
          await daemon.event("BLOCK_EXPORT_DELETED", { id: "e" });
          client.kill();
          return JSON.stringify([safe.error, hard.return]);
        },
      );
    };
    const [real, own] = await Promise.all(sides.map(story));
    expect(own).toBe(real);
  });

  test("quit answers, tells of the exports' end, and takes the socket away", async () => {
    const sock = scratch.at("quit.sock");
    const nbd = ["--nbd-server", `addr.type=unix,addr.path=${sock}`, "--export", "nbd,id=e,node-name=n"];
    const daemon = await Daemon.start({ args: [...args, ...nbd] });
    expect(existsSync(sock)).toBe(true);
    expect(await daemon.quit()).toBe(0);
    expect(daemon.events.map(({ event }) => event)).toContain("BLOCK_EXPORT_DELETED");
    expect(existsSync(sock)).toBe(false);
  });

  test("an address that others reach is refused without TLS, unless it is allowed", async () => {
    await withDaemon({ args }, async (daemon) => {
      const start = { addr: { type: "inet", data: { host: "0.0.0.0", port: "0" } } };
      expect(await daemon.refusal("nbd-server-start", start)).toContain("without TLS is refused");
      const loopback = { addr: { type: "inet", data: { host: "127.0.0.1", port: "0" } } };
      expect(await daemon.refusal("nbd-server-start", loopback)).toBeUndefined();
    });
    await withDaemon({ args: [...args, "--allow-plain-tcp"] }, async (daemon) => {
      const start = { addr: { type: "inet", data: { host: "0.0.0.0", port: "0" } } };
      expect(await daemon.refusal("nbd-server-start", start)).toBeUndefined();
    });
  });
});

describe("TLS", () => {
  const creds = scratch.at("creds");

  async function served(object: string, body: (port: string) => Promise<void>): Promise<void> {
    const port = String(await freePort());
    const args = [
      ...["--object", `${object},id=t,endpoint=server,dir=${creds}`],
      ...["--blockdev", "null-co,node-name=n,size=1048576,read-zeroes=on"],
      ...["--nbd-server", `addr.type=inet,addr.host=127.0.0.1,addr.port=${port},tls-creds=t`],
      ...["--export", "nbd,id=e,node-name=n,writable=on"],
    ];
    await withDaemon({ args }, () => body(port));
  }

  beforeAll(async () => {
    mkdirSync(creds);
    await makeCredentials(creds);
  });

  test("by certificates: libnbd and qemu-img come in, who shows none stays out", async () => {
    await served("tls-creds-x509,verify-peer=on", async (port) => {
      const secure = `nbds://localhost:${port}/n?tls-certificates=${creds}`;
      expect(await nbdsh(secure, "print(h.get_tls_negotiated(), h.pread(512, 0) == bytearray(512))")).toBe(
        "True True\n",
      );
      const own = ["--object", `tls-creds-x509,id=c,endpoint=client,dir=${creds}`];
      const opts = `driver=nbd,host=localhost,port=${port},export=n,tls-creds=c`;
      expect(await said("qemu-img", "info", ...own, "--image-opts", opts)).toContain("virtual size: 1 MiB");
      const plain = await say("nbdinfo", [`nbd://localhost:${port}/n`]);
      expect([plain.status, plain.stderr]).toEqual([
        1,
        expect.stringContaining("Operation not supported for export: n"),
      ]);
    });
  });

  test("by a shared key", async () => {
    await served("tls-creds-psk", async (port) => {
      const secure = `nbds://bert@localhost:${port}/n?tls-psk-file=${creds}/keys.psk`;
      expect(await nbdsh(secure, "print(h.pwrite(b'x' * 512, 0), h.get_tls_negotiated())")).toBe(
        "None True\n",
      );
      const own = ["--object", `tls-creds-psk,id=c,endpoint=client,dir=${creds}`];
      const opts = `driver=nbd,host=localhost,port=${port},export=n,tls-creds=c`;
      expect(await said("qemu-img", "info", ...own, "--image-opts", opts)).toContain("virtual size: 1 MiB");
    });
  });
});
