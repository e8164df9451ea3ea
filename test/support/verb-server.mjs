// Blockwright's program in a process that stays: `node verb-server.mjs PROGRAM REQUESTS ANSWERS`, the latter two being named
// pipes. It takes command lines (verb-client.ts) and carries them out one by one by running anew what PROGRAM launches, with
// arguments, directory, environment and output in the place of the process's own; so a line costs what it does, and not Node's start.
//
// A message is its length (32 bits, little-endian) and JSON.
//
// @ts-check
import { closeSync, openSync, read, readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { takeCoverage } from "node:v8";
import { Script } from "node:vm";

/** @typedef {{ cwd: string, words: string[], env: Record<string, string>, input: string }} Line */
/** @typedef {{ status: number, stdout: string, stderr: string }} Answer */

/** What process.exit() throws here. */
class Exit extends Error {
  /** @param {number} status */
  constructor(status) {
    super(`exit ${status}`);
    this.status = status;
  }
}

/**
 * Makes a stream keep what is written to it; the function gives it.
 *
 * @param {NodeJS.WriteStream} stream
 */
function kept(stream) {
  /** @type {Uint8Array[]} */
  const chunks = [];
  /** @type {(chunk: string | Uint8Array, ...rest: unknown[]) => boolean} */
  stream.write = (chunk, ...rest) => {
    chunks.push(Buffer.from(chunk));
    const done = /** @type {(() => void) | undefined} */ (rest.find((one) => typeof one === "function"));
    if (done) queueMicrotask(done);
    return true;
  };
  return () => Buffer.concat(chunks).toString("utf8");
}

const [program = "", requests = "", answers = ""] = process.argv.slice(2);
const file = join(dirname(program), "program.js");
const script = new Script(
  `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, "latin1")}\n})`,
  { filename: file },
);

/** Runs the program; resolves when its command line is carried out. */
async function runProgram() {
  const module = { exports: { done: Promise.resolve() } };
  const run = /** @type {(...given: unknown[]) => void} */ (script.runInThisContext());
  run(module.exports, createRequire(file), module, file, dirname(file));
  await module.exports.done;
}

/**
 * Runs a line; the status that the process would have had.
 *
 * @param {Line} line
 */
async function statusOf({ cwd, words, env, input }) {
  process.chdir(cwd);
  Object.assign(process.env, env);
  process.argv = [process.execPath, program, ...words];
  process.exitCode = undefined;
  Object.defineProperty(process, "stdin", { value: Readable.from([Buffer.from(input)]), configurable: true });
  /** @type {Promise<never>} */
  const exited = new Promise((_resolve, reject) => {
    // Where it is called by itself, and not in what is awaited below.
    process.once("uncaughtException", reject);
  });
  exited.catch(() => undefined);
  try {
    await Promise.race([runProgram(), exited]);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof Exit) return error.status;
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    return 1;
  } finally {
    for (const name of ["uncaughtException", "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
      process.removeAllListeners(name);
    process.stdout.removeAllListeners("error");
  }
}

/**
 * Runs a line, and keeps what it prints.
 *
 * @param {Line} line
 * @returns {Promise<Answer>}
 */
async function carryOut(line) {
  const [stdout, stderr] = [kept(process.stdout), kept(process.stderr)];
  const status = await statusOf(line);
  process.exitCode = undefined;
  return { status, stdout: stdout(), stderr: stderr() };
}

const readSome = promisify(read);

/**
 * Reads that many bytes; undefined when nobody writes any more.
 *
 * @param {number} file
 * @param {number} bytes
 */
async function take(file, bytes) {
  const buffer = Buffer.alloc(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await readSome(file, buffer, done, bytes - done, null);
    if (bytesRead === 0) return undefined;
    done += bytesRead;
  }
  return buffer;
}

// Streams for which the program puts no stand-ins.
for (const name of /** @type {const} */ (["stdout", "stderr"]))
  Object.defineProperty(process, name, { value: process[name], configurable: true });
process.exit = (status) => {
  throw new Exit(Number(status ?? process.exitCode ?? 0));
};
const [incoming, outgoing] = [openSync(requests, "r"), openSync(answers, "w")];
for (;;) {
  const head = await take(incoming, 4);
  const body = head && (await take(incoming, head.readUInt32LE()));
  if (body === undefined) break;
  const line = /** @type {Line} */ (JSON.parse(body.toString("utf8")));
  const answer = Buffer.from(JSON.stringify(await carryOut(line)));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(answer.length);
  const message = Buffer.concat([size, answer]);
  for (let done = 0; done < message.length;) done += writeSync(outgoing, message, done);
}
closeSync(outgoing);
// The end below leaves no time for it.
if (process.env["NODE_V8_COVERAGE"] !== undefined) takeCoverage();
process.kill(process.pid, "SIGKILL");
