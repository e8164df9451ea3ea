// Programs that speak NBD, run beside each other on our server and on QEMU's.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tool } from "../../support/tools.ts";
import { HANG_MS } from "../../support/until.ts";

/** What a program said. */
export interface Said {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program, whatever becomes of it. */
export function say(program: string, args: readonly string[], cwd?: string): Promise<Said> {
  const options = { timeout: HANG_MS, maxBuffer: 2 ** 26, ...(cwd === undefined ? {} : { cwd }) };
  return new Promise((resolve) => {
    execFile(program, [...args], options, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    );
  });
}

/** Runs a program that must succeed; what it printed. */
export async function said(program: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await say(program, args);
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: exit ${status}\n${stdout}${stderr}`);
  return stdout;
}

/** The system's Python, which knows of libnbd, as nbdsh; another one may come first in the path. */
export const SHELL = ["/usr/bin/python3", "-m", "nbd"] as const;

/** A TCP port that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Python with libnbd, which must succeed: `h` is connected to the URI. What it printed. */
export function nbdsh(uri: string, ...lines: readonly string[]): Promise<string> {
  const connect = [
    "h.set_uri_allow_local_file(True)",
    `h.add_meta_context("base:allocation")`,
    `h.connect_uri("${uri}")`,
  ];
  return said(...SHELL, ...[...connect, ...lines].flatMap((line) => ["-c", line]));
}

/** A directory that goes with the tests. */
export class Scratch {
  readonly path = mkdtempSync(join(tmpdir(), "blockwright-nbd-"));

  at(name: string): string {
    return join(this.path, name);
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A disk of 64 MiB with data, zeroes and holes, and a bitmap `b0` that says what came last. */
export async function makeDisk(path: string): Promise<void> {
  await tool("qemu-img", "create", "-q", "-f", "qcow2", path, "64M");
  await tool("qemu-io", "-c", "write -P 5 1M 3M", "-c", "write -z 10M 1M", "-c", "write -P 7 40M 64k", path);
  await tool("qemu-img", "bitmap", "--add", path, "b0");
  await tool("qemu-io", "-c", "write -P 9 20M 128k", path);
}

/** Certificates by one authority, and keys, in a folder as QEMU's objects want them. */
export async function makeCredentials(folder: string): Promise<void> {
  const at = (name: string): string => join(folder, name);
  const openssl = (...args: string[]): Promise<string> => said("openssl", ...args);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"];
  await openssl(
    "req",
    "-x509",
    ...key,
    "-subj",
    "/CN=ca",
    "-keyout",
    at("ca-key.pem"),
    "-out",
    at("ca-cert.pem"),
  );
  writeFileSync(at("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  for (const side of ["server", "client"]) {
    const files = ["-keyout", at(`${side}-key.pem`), "-out", at(`${side}.csr`)];
    await openssl(
      "req",
      ...key.slice(0, -2),
      "-subj",
      `/CN=${side === "server" ? "localhost" : "client"}`,
      ...files,
    );
    const by = ["-CA", at("ca-cert.pem"), "-CAkey", at("ca-key.pem"), "-CAcreateserial", "-days", "30"];
    const names = ["-extfile", at("names"), "-out", at(`${side}-cert.pem`)];
    await openssl("x509", "-req", "-in", at(`${side}.csr`), ...by, ...names);
  }
  writeFileSync(at("keys.psk"), `qemu:${"5a".repeat(32)}\nbert:${"3c".repeat(32)}\n`, { mode: 0o600 });
}
