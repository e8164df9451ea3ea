// Another's object store (s3rver, from npm), which checks signatures, and the program's verbs beside it.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import S3rver from "@20minutes/s3rver";
import { AwsClient } from "aws4fetch";
import { expect } from "vitest";
import { ours } from "../../support/daemon.ts";
import { type Said, Scratch } from "./nbd.ts";

const KEYS = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };

/** A running store with a bucket `disks`, and a directory for the verbs. */
export class ObjectServer {
  readonly scratch = new Scratch();
  readonly #server: S3rver;
  endpoint = "";

  private constructor() {
    this.#server = new S3rver({
      ...{ port: 0, address: "127.0.0.1", silent: true, directory: this.scratch.at("store") },
      configureBuckets: [{ name: "disks", configs: [] }],
    });
  }

  static async start(): Promise<ObjectServer> {
    const server = new ObjectServer();
    server.endpoint = `http://127.0.0.1:${(await server.#server.run()).port}`;
    return server;
  }

  async stop(): Promise<void> {
    await this.#server.close();
    this.scratch.remove();
  }

  /** What the program says, in a process of its own: the server is in this one. */
  say(words: readonly string[], more: Record<string, string> = {}): Promise<Said> {
    const env = {
      ...process.env,
      ...{ AWS_ENDPOINT_URL: this.endpoint, AWS_ACCESS_KEY_ID: "S3RVER", AWS_SECRET_ACCESS_KEY: "S3RVER" },
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
    return new AwsClient({ ...KEYS, service: "s3", region: "us-east-1" });
  }
}
