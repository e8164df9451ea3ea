// Others' object stores (s3rver, from npm; Debian's swift with s3api), which check signatures, and the program's verbs beside them.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import S3rver from "@20minutes/s3rver";
import { AwsClient } from "aws4fetch";
import { expect } from "vitest";
import { ours } from "../../support/daemon.ts";
import { type Said, Scratch } from "./nbd.ts";

/** Who may ask a server, and what stands behind the names of its disks. */
interface Access {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly query: string;
}

/** A server that was started. */
interface Started {
  readonly endpoint: string;
  readonly end: () => Promise<void>;
}

const S3RVER: Access = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER", query: "?path-style=on" };
const SWIFT: Access = {
  ...{ accessKeyId: "test:tester", secretAccessKey: "testing" },
  // It answers conditional writes with 501.
  query: "?conditional-writes=off",
};
/** The system's Python knows the package. */
const PYTHON = "/usr/bin/python3";
/** Whether Debian's swift is here. */
export const hasSwift = existsSync("/usr/lib/python3/dist-packages/swift/__init__.py");

async function startS3rver(directory: string): Promise<Started> {
  const server = new S3rver({
    ...{ port: 0, address: "127.0.0.1", silent: true, directory },
    configureBuckets: [{ name: "disks", configs: [] }],
  });
  return { endpoint: `http://127.0.0.1:${(await server.run()).port}`, end: () => server.close() };
}

async function startSwift(directory: string): Promise<Started> {
  mkdirSync(directory);
  const program = join(import.meta.dirname, "swift.py");
  const child = spawn(PYTHON, [program, directory], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const [said] = (await Promise.race([once(child.stdout, "data"), ended])) as [unknown];
  const [, port] = /^port (\d+)/.exec(String(said)) ?? [];
  if (port === undefined) throw new Error("swift does not come up");
  const end = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  return { endpoint: `http://127.0.0.1:${port}`, end };
}

/** A running store with a bucket `disks`, and a directory for the verbs. */
export class ObjectServer {
  readonly scratch: Scratch;
  readonly endpoint: string;
  readonly access: Access;
  readonly #end: () => Promise<void>;

  private constructor(scratch: Scratch, access: Access, { endpoint, end }: Started) {
    this.scratch = scratch;
    this.access = access;
    this.endpoint = endpoint;
    this.#end = end;
  }

  /** From npm. */
  static async start(): Promise<ObjectServer> {
    const scratch = new Scratch();
    return new ObjectServer(scratch, S3RVER, await startS3rver(scratch.at("store")));
  }

  /** Debian's. */
  static async swift(): Promise<ObjectServer> {
    const scratch = new Scratch();
    const server = new ObjectServer(scratch, SWIFT, await startSwift(scratch.at("store")));
    const made = await server.#client().fetch(`${server.endpoint}/disks`, { method: "PUT" });
    expect(made.status).toBe(200);
    return server;
  }

  async stop(): Promise<void> {
    await this.#end();
    this.scratch.remove();
  }

  /** The name of a disk, its key percent-encoded, with whatever the store needs. */
  name(key: string): string {
    return `s3://disks/${key}${this.access.query}`;
  }

  /** What the program says, in a process of its own: the server is in this one. */
  say(words: readonly string[], more: Record<string, string> = {}): Promise<Said> {
    const { accessKeyId, secretAccessKey } = this.access;
    const env = {
      ...process.env,
      ...{ AWS_ENDPOINT_URL: this.endpoint, AWS_ACCESS_KEY_ID: accessKeyId },
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      ...more,
    };
    const [node, main] = ours;
    const options = { cwd: this.scratch.at("."), env, maxBuffer: 2 ** 28 };
    return new Promise((resolve) =>
      execFile(node!, [main!, ...words], options, (error, stdout, stderr) =>
        resolve({ status: typeof error?.code === "number" ? error.code : error ? 1 : 0, stdout, stderr }),
      ),
    );
  }

  /** What a verb says, which must succeed and complain of nothing. */
  async fine(...words: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.say(words);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout;
  }

  /** An object as any client has it. */
  async download(key: string): Promise<Buffer> {
    const response = await this.#client().fetch(`${this.endpoint}/disks/${key}`);
    expect(response.status).toBe(200);
    return Buffer.from(await response.arrayBuffer());
  }

  /** The keys of the bucket that begin so. */
  async keys(prefix = ""): Promise<string[]> {
    const response = await this.#client().fetch(`${this.endpoint}/disks?list-type=2&prefix=${prefix}`);
    return [...(await response.text()).matchAll(/<Key>([^<]*)</g)].map(([, key]) => key!);
  }

  /** Removes an object behind the program's back. */
  async remove(key: string): Promise<void> {
    await this.#client().fetch(`${this.endpoint}/disks/${key}`, { method: "DELETE" });
  }

  /** A file of the directory. */
  file(name: string): Buffer {
    return readFileSync(this.scratch.at(name));
  }

  #client(): AwsClient {
    const { accessKeyId, secretAccessKey } = this.access;
    return new AwsClient({ accessKeyId, secretAccessKey, service: "s3", region: "us-east-1" });
  }
}
