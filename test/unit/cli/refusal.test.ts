/**
 * What is told of errors: their words, and the advice that they carry beside them.
 */
import { describe, expect, it } from "vitest";
import { BlockError, CommandError, detailOf } from "../../../src/base/errors.ts";
import { Refusal, notOpened, told } from "../../../src/cli/refusal.ts";
import { validate } from "../../../src/wire/qapi/index.ts";

const hint = "Is another process using the image [a.qcow2]?";
const locked = new BlockError({ code: "EAGAIN", op: "lock", message: "no lock", details: { hint } });

describe("told()", () => {
  it("puts the hint below the words, from whatever error in the chain of causes has it", () => {
    expect(told(locked)).toBe(`no lock\n${hint}`);
    const outer = new BlockError({
      code: "EAGAIN",
      op: "open",
      message: "Could not open backing file: no lock",
      cause: locked,
    });
    expect(told(outer)).toBe(`Could not open backing file: no lock\n${hint}`);
  });

  it("names the verb that does what was refused", () => {
    const error = new CommandError("Cannot amend the backing file", { details: { instead: "rebase" } });
    expect(told(error)).toBe("Cannot amend the backing file\nYou can use 'blockwright rebase' instead.");
  });

  it("adds nothing to a refusal, which has its lines, nor to words that only look like a lock's", () => {
    expect(told(new Refusal(`x\n${hint}`))).toBe(`x\n${hint}`);
    expect(told(new Error('Failed to get "write" lock'))).toBe('Failed to get "write" lock');
  });
});

describe("the path of a parameter too many", () => {
  it("is a field of the error", () => {
    let caught: unknown;
    try {
      validate("BlockdevOptions", { driver: "raw", file: { driver: "null-co", sise: 1 } });
    } catch (error) {
      caught = error;
    }
    expect(detailOf(caught, "unexpected")).toBe("file.sise");
  });
});

describe("an image that can't be opened", () => {
  const failure = (name: string): BlockError =>
    new BlockError({ code: "ENOENT", op: "open", message: `Could not open '${name}': it is gone` });

  it.each(["http://h/a", "s3://b/k", "oci://h/a:b"])("%s is named once", (name) => {
    expect(notOpened(name, failure(name))).toBe(`Could not open '${name}': it is gone`);
  });

  it("is named twice where it is a file, as QEMU does", () => {
    expect(notOpened("a", failure("a"))).toBe("Could not open 'a': Could not open 'a': it is gone");
  });

  it("is named beside another that failed", () => {
    const words = notOpened("http://h/a", failure("http://h/base"));
    expect(words).toBe("Could not open 'http://h/a': Could not open 'http://h/base': it is gone");
  });
});
