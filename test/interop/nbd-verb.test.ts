// `blockwright nbd` beside the real qemu-nbd: what clients see, refusals word by word, how it ends, and lists of each other's servers.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ours } from "../support/daemon.ts";
import { makeDisk, said, say, Scratch } from "./support/nbd.ts";
import { until } from "../support/until.ts";

const scratch = new Scratch();
const [node, main] = ours;
const programs = {
  theirs: ["qemu-nbd"],
  ours: [node!, main!, "--run-as=qemu-nbd"],
  own: [node!, main!, "nbd"],
} as const;
type Side = keyof typeof programs;
const sides = ["theirs", "ours"] as const;
const running: ChildProcess[] = [];

beforeAll(async () => {
  await makeDisk(scratch.at("disk.qcow2"));
  for (const side of sides) copyFileSync(scratch.at("disk.qcow2"), scratch.at(`${side}.qcow2`));
});

/** By SIGTERM, so that images are closed in order. */
async function stop(children: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    children.map(async (child) => {
      if (child.exitCode !== null) return;
      const over = once(child, "exit");
      child.kill("SIGTERM");
      await over;
    }),
  );
}

afterEach(() => stop(running.splice(0)));

afterAll(() => scratch.remove());

/** Starts a server on a socket; resolves when it listens. */
async function start(
  side: Side,
  ...args: string[]
): Promise<{ child: ChildProcess; uri: string; over: Promise<number | null> }> {
  const socket = scratch.at(`${side}-${running.length}-${Date.now()}.sock`);
  const [program, ...first] = programs[side];
  const child = spawn(program, [...first, "-k", socket, ...args], { cwd: scratch.path, stdio: "ignore" });
  const over = new Promise<number | null>((resolve) => child.once("exit", resolve));
  running.push(child);
  await until("it listens", () => existsSync(socket) || child.exitCode !== null);
  const name = args[args.indexOf("-x") + 1] ?? "";
  return { child, over, uri: `nbd+unix:///${args.includes("-x") ? name : ""}?socket=${socket}` };
}

/** The same of both programs, names of the side and of sockets taken out. */
async function expectSame(
  args: (side: Side) => string[],
  ask: (uri: string) => Promise<string>,
): Promise<void> {
  const answers = await Promise.all(
    sides.map(async (side) => {
      const { uri } = await start(side, ...args(side));
      return (await ask(uri))
        .replaceAll(uri, "URI")
        .replaceAll(/\d\d\.\d\d sec.*/g, "T")
        .replaceAll(/socket=\S+sock/g, "S");
    }),
  );
  await stop(running.splice(0));
  expect(answers[1]).toBe(answers[0]);
  expect(answers[1]).not.toBe("");
}

describe("clients see the same", () => {
  test.each([
    ["a plain export", ["-f", "qcow2"]],
    ["a name, a description, several clients", ["-f", "qcow2", "-x", "disk", "-D", "of ours", "-e", "5"]],
    ["a read-only one with bitmap and depth", ["-f", "qcow2", "-r", "-A", "-B", "b0", "-e", "0"]],
    ["a part", ["-f", "raw", "-o", "65536"]],
    [
      "a probed format, discards, zeroes, a cache",
      ["--discard=unmap", "--detect-zeroes=unmap", "--cache=writethrough"],
    ],
  ])("%s", async (_what, args) => {
    const read = args.includes("-B") ? "-r" : "-t";
    await expectSame(
      (side) => [read, "-t", ...args, `${side}.qcow2`],
      (uri) => said("nbdinfo", "--json", uri),
    );
  });

  test("what is written is there, with -s it is nowhere", async () => {
    const io = ["-f", "raw", "-c", "write -P 9 1M 64k", "-c", "read -P 9 1M 64k"];
    await expectSame(
      (side) => ["-f", "qcow2", "-s", `${side}.qcow2`],
      (uri) => said("qemu-io", ...io, uri),
    );
    const same = ["-c", "read -P 5 1M 64k", scratch.at("ours.qcow2")];
    expect(await said("qemu-io", ...same)).not.toContain("Pattern verification failed");
    await expectSame(
      (side) => ["-f", "qcow2", `${side}.qcow2`],
      (uri) => said("qemu-io", ...io, uri),
    );
    expect(await said("qemu-io", "-c", "read -P 9 1M 64k", scratch.at("ours.qcow2"))).not.toContain("failed");
  });
});

describe("it ends", () => {
  test("with the last client, unless -t is given, and by SIGTERM and SIGHUP with status 0", async () => {
    const once = await start("ours", "-f", "qcow2", "ours.qcow2");
    await said("nbdinfo", "--size", once.uri);
    expect(await once.over).toBe(0);
    for (let i = 0; i < 2; i++) {
      const stays = await start("ours", "-t", "-e", "0x2", "-f", "qcow2", "ours.qcow2");
      for (let client = 0; client < 2; client++) await said("nbdinfo", "--size", stays.uri);
      stays.child.kill(i === 0 ? "SIGTERM" : "SIGHUP");
      expect(await stays.over).toBe(0);
    }
  });

  test("not with one that only asks, knocks, or wants an export that is not there", async () => {
    for (const side of ["theirs", "ours"] as const) {
      const { uri, over } = await start(side, "-x", "disk", "-f", "qcow2", `${side}.qcow2`);
      const socket = uri.slice(uri.indexOf("=") + 1);
      for (const asker of sides)
        await said(programs[asker][0], ...programs[asker].slice(1), "-L", "-k", socket);
      expect((await say("nbdinfo", ["--size", uri.replace("disk", "other")])).status).toBe(1);
      const knock = connect(socket);
      await once(knock, "data");
      knock.destroy();
      expect(await said("nbdinfo", "--size", uri)).toBe(`${2 ** 26}\n`);
      expect(await over).toBe(0);
    }
  });

  test.each([
    { side: "theirs", isLeft: true },
    { side: "ours", isLeft: true },
    { side: "own", isLeft: false },
  ] as const)(
    "$side: its pid file is left as qemu-nbd leaves it, under that name alone: $isLeft",
    async ({ side, isLeft }) => {
      const pidfile = `${side}.pid`;
      const image = side === "theirs" ? "theirs.qcow2" : "ours.qcow2";
      const server = await start(side, "-t", "-f", "qcow2", `--pid-file=${pidfile}`, image);
      await until(
        "the pid file",
        () => existsSync(scratch.at(pidfile)) && readFileSync(scratch.at(pidfile), "utf8") !== "",
      );
      expect(readFileSync(scratch.at(pidfile), "utf8")).toBe(`${server.child.pid}\n`);
      server.child.kill("SIGTERM");
      expect(await server.over).toBe(0);
      expect(existsSync(scratch.at(pidfile))).toBe(isLeft);
    },
  );

  test("--fork returns when clients are served", async () => {
    const socket = scratch.at("fork.sock");
    const args = ["-t", "--fork", "--pid-file=fork.pid", "-k", socket, "-f", "qcow2", "ours.qcow2"];
    const [program, ...first] = programs.ours;
    expect((await say(program, [...first, ...args], scratch.path)).status).toBe(0);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(await said("nbdinfo", "--size", `nbd+unix:///?socket=${socket}`)).toBe(`${2 ** 26}\n`);
    const pid = Number(readFileSync(scratch.at("fork.pid"), "utf8"));
    process.kill(pid, "SIGTERM");
    await until("the server has ended", () => !existsSync(`/proc/${pid}`));
  });
});

test.runIf(existsSync("/proc/self/task"))(
  "as many writes as a client has under way may wait for the disk at once",
  async () => {
    for (const side of ["own", "ours"] as const) {
      const { child } = await start(side, "-t", "-f", "qcow2", "ours.qcow2");
      expect(readdirSync(`/proc/${child.pid}/task`).length).toBeGreaterThan(32);
      await stop(running.splice(0));
    }
  },
);

describe("-L", () => {
  test("lists ours and theirs as qemu-nbd does", async () => {
    for (const server of sides) {
      const { uri } = await start(
        server,
        "-t",
        "-r",
        "-e",
        "3",
        "-A",
        "-B",
        "b0",
        "-D",
        "text",
        "-x",
        "n",
        "-f",
        "qcow2",
        `${server}.qcow2`,
      );
      const socket = uri.slice(uri.indexOf("=") + 1);
      const [real, own] = await Promise.all(
        sides.map((side) => said(programs[side][0], ...programs[side].slice(1), "-L", "-k", socket)),
      );
      expect(own).toBe(real);
      expect(own).toContain("available meta contexts: 3");
    }
  });
});

describe("refusals", () => {
  test.each([
    [["nofile"]],
    [[]],
    [["a", "b"]],
    [["-e", "x", "DISK"]],
    [["-k", "relative", "DISK"]],
    [["-k", "SOCK", "-f", "nope", "DISK"]],
    [["-o", "x", "DISK"]],
    [["--cache=z", "DISK"]],
    [["--discard=z", "DISK"]],
    [["--detect-zeroes=z", "DISK"]],
    [["--aio=z", "DISK"]],
    [["--image-opts", "-f", "raw", "DISK"]],
    [["-k", "SOCK", "-f", "qcow2", "-B", "none", "DISK"]],
    [["-k", "SOCK", "--tls-creds=t", "DISK"]],
    [["-L", "DISK"]],
    [["-L", "-D", "text"]],
    [["-L", "-A"]],
    [["-L", "--aio=native"]],
    [["-L", "--fork"]],
    [["-L", "-r", "-s", "-t", "-k", "/nonexistent/sock"]],
    [["-L", "--tls-creds=x", "--tls-authz=a"]],
    [["-n", "--cache=none", "DISK"]],
    [["--cache=none", "--cache=none", "DISK"]],
    [["--aio=native", "--aio=threads", "DISK"]],
    [["--discard=ignore", "--discard=unmap", "DISK"]],
    [["-e", "2147483648", "DISK"]],
    [["-e", "0x80000000", "DISK"]],
    [["-e", "08", "DISK"]],
    [["--tls-authz=a", "DISK"]],
    [["--tls-hostname=h", "DISK"]],
    [["--tls-creds=x", "--tls-hostname=h", "DISK"]],
    [["-x", "LONG", "DISK"]],
    [["-D", "LONG", "DISK"]],
    [["-k", "SOCK", "-f", "qcow2", "--pid-file=/nonexistent/pid", "DISK"]],
    [["-L", "-k", "/nonexistent/sock"]],
    [["-l", "none", "-k", "SOCK", "-f", "qcow2", "DISK"]],
  ])("%j", async (args) => {
    const [real, own] = await Promise.all(
      sides.map(async (side) => {
        const [program, ...first] = programs[side];
        const words = args.map((word) =>
          word === "DISK"
            ? `${side}.qcow2`
            : word.replace("SOCK", scratch.at("x.sock")).replace("LONG", "x".repeat(4097)),
        );
        const { status, stderr } = await say(program, [...first, ...words], scratch.path);
        return { status, text: stderr.replaceAll(side, "SIDE") };
      }),
    );
    expect(own).toEqual(real);
  });

  test("of what the kernel's client would do, and of what others would reach in the clear", async () => {
    const [program, ...first] = programs.ours;
    for (const [args, words] of [
      [["-c", "/dev/nbd0", "ours.qcow2"], "use nbd-client"],
      [["-d", "/dev/nbd0"], "use nbd-client"],
      [["-b", "0.0.0.0", "ours.qcow2"], "without TLS is refused"],
      [["--tls-creds=x", "--tls-authz=a", "ours.qcow2"], "--tls-authz is not supported"],
    ] as const) {
      const { status, stderr } = await say(program, [...first, ...args], scratch.path);
      expect([status, stderr]).toEqual([1, expect.stringContaining(words)]);
    }
  });
});

test("a socket that was handed over is listened on", async () => {
  const script = [
    "import os, socket, sys",
    "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1] + '.new'); s.listen(5); os.rename(sys.argv[1] + '.new', sys.argv[1]); os.dup2(s.fileno(), 3); os.set_inheritable(3, True)",
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')",
    "os.execv(sys.argv[2], sys.argv[2:])",
  ].join("\n");
  const socket = scratch.at("handed.sock");
  const args = ["-c", script, socket, ...programs.ours, "-f", "qcow2", "ours.qcow2"];
  const child = spawn("python3", args, { cwd: scratch.path, stdio: "ignore" });
  running.push(child);
  await until("it listens", () => existsSync(socket));
  expect(await said("nbdinfo", "--size", `nbd+unix:///?socket=${socket}`)).toBe(`${2 ** 26}\n`);
});
