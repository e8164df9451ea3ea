// Standard output without the stream that Node makes of it: what is printed arrives, in order, whoever reads it and whatever is asked.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { buildProgram } from "../../../support/program.ts";

const program = await buildProgram("test/support/late-output.ts");
const folder = mkdtempSync(join(tmpdir(), "blockwright-output-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs lines of a program that begins with stand-ins; it says on stderr at its end which of Node's modules it has loaded. */
function run(lines: string): { stdout: string; stderr: string; status: number | null; loaded: string[] } {
  const script = join(folder, "script.cjs");
  writeFileSync(script, lines);
  const { stdout, stderr, status } = spawnSync(process.execPath, [program, script], { encoding: "utf8" });
  const [said = "", loaded = ""] = stderr.split("loaded: ");
  return { stdout, stderr: said, status, loaded: loaded.trim().split(" ") };
}

it("writes a short text to both streams without them", () => {
  const { stdout, stderr, loaded } = run(`
    process.stdout.on("error", () => undefined);
    process.stdout.write("one ");
    process.stdout.write(Buffer.from("zwölf\\n"), () => process.stderr.write("written\\n"));
    if (process.stderr.isTTY) process.stdout.write("a terminal");
  `);
  expect([stdout, stderr]).toEqual(["one zwölf\n", "written\n"]);
  expect(loaded).not.toContain("net");
  expect(loaded).not.toContain("stream");
});

it("makes the stream for a long text, an encoding and all else, in order", () => {
  const { stdout, loaded } = run(`
    const early = process.stdout;
    early.write("1");
    early.write("32", "hex");
    early.write("3".repeat(100_000));
    process.stdout.write("4");
    early.end("5");
    early.once("finish", () => process.stderr.write(String(early instanceof require("node:stream").Writable)));
  `);
  expect(stdout).toBe(`12${"3".repeat(100_000)}45`);
  expect(loaded).toContain("net");
});

it("prints on when a thread of ours has ended", () => {
  const threads = ["lane-thread", "decode-thread"].map((name) =>
    readFileSync(`src/platform/node/${name}.ts`, "utf8"),
  );
  const options = threads.map((text) => /const streams = (\{.*?\});/.exec(text)?.[1] ?? "{}");
  expect(options).toHaveLength(2);
  for (const streams of options) {
    const { stdout } = run(`
      const { Worker } = require("node:worker_threads");
      process.stdout.write("before ");
      const worker = new Worker("", { eval: true, ...${streams} });
      worker.on("exit", () => setImmediate(() => process.stdout.write("and after")));
    `);
    expect(stdout).toBe("before and after");
  }
});

it("tells listeners of a reader that is gone, those from before too", async () => {
  const script = join(folder, "gone.cjs");
  writeFileSync(
    script,
    `process.stdout.on("error", (error) => process.stderr.write(error.code + "\\n"));
    process.stdin.resume();
    process.stdin.on("end", () => process.stdout.write("nobody reads this"));`,
  );
  const child = spawn(process.execPath, [program, script]);
  let said = "";
  child.stderr.on("data", (bytes: Buffer) => (said += bytes.toString()));
  child.stdout.destroy();
  child.stdin.end();
  const status = await new Promise((resolve) => child.once("close", resolve));
  expect([status, said.split("\n")[0]]).toEqual([0, "EPIPE"]);
});

it("writes to a file, behind what is there", () => {
  const [script, file] = [join(folder, "file.cjs"), join(folder, "out.txt")];
  writeFileSync(
    script,
    `process.stdout.write("b"); console.log("c"); process.stdout.write("d".repeat(9000));`,
  );
  writeFileSync(file, "a");
  const out = openSync(file, "a");
  expect(spawnSync(process.execPath, [program, script], { stdio: ["ignore", out, "pipe"] }).status).toBe(0);
  closeSync(out);
  expect(readFileSync(file, "utf8")).toBe(`abc\n${"d".repeat(9000)}`);
});
