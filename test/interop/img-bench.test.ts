// bench beside qemu-img bench: the same words and exit codes, and with -w the same image. Times are masked.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { type Outcome, withTemplates } from "./support/twins.ts";

const twins = withTemplates((templates) => {
  const img = (line: string): unknown => execFileSync("qemu-img", line.split(" "), { cwd: templates.theirs });
  img("create -q -f qcow2 a.qcow2 4M");
  img("create -q -f qcow2 tiny.qcow2 2k");
  img("create -q -f raw a.raw 1M");
  execFileSync("qemu-io", ["-c", "write -P 3 1M 2M", "a.qcow2"], { cwd: templates.theirs });
});

function masked({ status, stdout, stderr }: Outcome): Outcome {
  return { status, stdout: stdout.replace(/in \d+\.\d{3} seconds/, "in TIME seconds"), stderr };
}

it.each([
  "a.qcow2",
  "-w a.qcow2",
  "-c 0 a.qcow2",
  "-c 0x10 -d 4 -s 64k a.qcow2",
  "-s 1000 -S 3000 -o 100 a.qcow2",
  "-s 4M a.qcow2",
  "-s 0 a.qcow2",
  "-s 512 -S 0 a.qcow2",
  "-s 512 tiny.qcow2",
  "-w --pattern 5 -s 1000 -S 4000 -o 4090k -c 3 a.qcow2",
  "-w --pattern 0x12 --flush-interval 4 -d 4 a.qcow2",
  "-w --flush-interval 4 -d 2 --no-drain a.qcow2",
  "-w --no-drain a.qcow2",
  "-w --flush-interval 0 a.qcow2",
  "-w -t none a.qcow2",
  "-w -t writethrough a.qcow2",
  "-t unsafe -q a.qcow2",
  "-n -t none a.qcow2",
  "-i threads a.qcow2",
  "-U a.qcow2",
  "-f raw a.raw",
  "-w a.raw",
  "--pattern 5 a.qcow2",
  "--image-opts driver=qcow2,file.filename=a.qcow2",
  "",
  "a.qcow2 b",
  "-c x a.qcow2",
  "-c 1k a.qcow2",
  "-c 99999999999 a.qcow2",
  "-d x a.qcow2",
  "-s x a.qcow2",
  "-s 3G a.qcow2",
  "-s 8M a.qcow2",
  "-S x a.qcow2",
  "-S 3G a.qcow2",
  "-o x a.qcow2",
  "-o 5M a.qcow2",
  "-o 4095k a.qcow2",
  "-w -o 4095k a.qcow2",
  "tiny.qcow2",
  "-w --pattern 300 a.qcow2",
  "-w --pattern x a.qcow2",
  "-w --flush-interval 3 a.qcow2",
  "--flush-interval 100 a.qcow2",
  "-w --flush-interval x a.qcow2",
  "-t nope a.qcow2",
  "-i nope a.qcow2",
  "-n a.qcow2",
  "-i native a.qcow2",
  "-w -U a.qcow2",
  "-f nope a.raw",
  "-f qcow2 a.raw",
  "none",
  "--image-opts -f qcow2 driver=qcow2,file.filename=a.qcow2",
])("measures as qemu-img: %s", (line) => {
  const { ours, theirs } = twins.both("bench", "-c", "20", ...line.split(" ").filter((word) => word !== ""));
  expect(masked(ours)).toEqual(masked(theirs));
  // A failed request ends the run while others are under way.
  if (line.startsWith("-w") && ours.status === 0) {
    for (const file of ["a.qcow2", "a.raw"]) {
      const compare = ["compare", join(twins.ours, file), join(twins.theirs, file)];
      expect(execFileSync("qemu-img", compare, { encoding: "utf8" })).toBe("Images are identical.\n");
    }
  }
});

it("refuses a queue without room, with which qemu-img never ends", () => {
  expect(twins.blockwright("bench", "-d", "0", "a.qcow2")).toEqual({
    status: 1,
    stdout: "",
    stderr: "blockwright: Invalid queue depth specified",
  });
});
